#!/usr/bin/env python3
"""Models that scikit-learn trains, written as operators of ai.onnx.ml, against scikit-learn's own answers.

    tests/ml/sklearn_test.py DUNLIN

Needs Debian's python3-sklearn and python3-onnx; without them it is skipped (exit code 77).
"""

import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from onnx import TensorProto, helper
    from sklearn import datasets, ensemble, linear_model, preprocessing, svm, tree
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

DOMAIN = "ai.onnx.ml"
FLOAT, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64


def floats(values):
    return [float(v) for v in np.asarray(values, dtype=np.float32).ravel()]


def run(dunlin, nodes, x, outputs, options):
    element = {np.dtype("f4"): FLOAT, np.dtype("f8"): DOUBLE}[x.dtype]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", element, ["n", x.shape[1]])],
                              [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs])
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid(DOMAIN, 3)]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "m.onnx").write_bytes(
            helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
        np.save(folder / "x.npy", x)
        subprocess.run([dunlin, "run", folder / "m.onnx", "--input", f"x={folder / 'x.npy'}",
                        "--output-dir", folder / "out", *options], check=True, capture_output=True)
        return [np.load(folder / "out" / f"{name}.npy") for name, _ in outputs]


def tree_lists(trees, votes, prefix, exact):
    """The attributes of an ensemble; votes(tree, node) → [(target, weight)]."""
    a = {f"nodes_{k}": [] for k in ("treeids", "nodeids", "featureids", "modes", "truenodeids", "falsenodeids")}
    a.update({f"{prefix}_{k}": [] for k in ("treeids", "nodeids", "ids")})
    thresholds, weights = [], []
    for t, one in enumerate(trees):
        for n in range(one.node_count):
            leaf = one.children_left[n] < 0
            a["nodes_treeids"].append(t)
            a["nodes_nodeids"].append(n)
            a["nodes_featureids"].append(0 if leaf else int(one.feature[n]))
            a["nodes_modes"].append("LEAF" if leaf else "BRANCH_LEQ")
            a["nodes_truenodeids"].append(0 if leaf else int(one.children_left[n]))
            a["nodes_falsenodeids"].append(0 if leaf else int(one.children_right[n]))
            thresholds.append(0.0 if leaf else float(one.threshold[n]))
            for target, weight in votes(one, n) if leaf else []:
                a[f"{prefix}_treeids"].append(t)
                a[f"{prefix}_nodeids"].append(n)
                a[f"{prefix}_ids"].append(int(target))
                weights.append(float(weight))
    for name, values in (("nodes_values", thresholds), (f"{prefix}_weights", weights)):
        if exact:
            a[name + "_as_tensor"] = helper.make_tensor(name, DOUBLE, [len(values)], values)
        else:
            # The largest float that is not above the threshold keeps every comparison of floats.
            single = np.asarray(values, dtype=np.float32)
            if name == "nodes_values":
                above = single.astype(np.float64) > values
                single[above] = np.nextafter(single[above], np.float32(-np.inf))
            a[name] = floats(single)
    return a


def forest(model, x, exact):
    """A forest's probabilities: each leaf votes with its share of the trees."""
    trees = [e.tree_ for e in model.estimators_]
    classes = len(model.classes_)

    def votes(one, n):
        shares = one.value[n][0] / one.value[n][0].sum() / len(trees)
        return [(0, shares[1])] if classes == 2 else list(enumerate(shares))

    node = helper.make_node("TreeEnsembleClassifier", ["x"], ["y", "z"], domain=DOMAIN,
                            classlabels_int64s=[int(c) for c in model.classes_],
                            **tree_lists(trees, votes, "class", exact))
    return [node], [("y", INT64), ("z", FLOAT)], [model.predict(x), model.predict_proba(x)]


def tree_regressor(model, trees, x, scale, base, exact):
    lists = tree_lists(trees, lambda one, n: [(0, one.value[n][0][0] * scale)], "target", exact)
    if exact:
        lists["base_values_as_tensor"] = helper.make_tensor("base", DOUBLE, [1], [float(base)])
    else:
        lists["base_values"] = floats([base])
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["z"], domain=DOMAIN, n_targets=1, **lists)
    return [node], [("z", FLOAT)], [model.predict(x)[:, None]]


def logistic(model, x):
    scaler = preprocessing.StandardScaler().fit(x)
    model.fit(scaler.transform(x), model.y)
    w, b = model.coef_, model.intercept_
    if len(w) == 1:
        w, b = np.vstack([-w, w]), np.concatenate([-b, b])
    multinomial = len(model.classes_) > 2
    nodes = [helper.make_node("Scaler", ["x"], ["s"], domain=DOMAIN, offset=floats(scaler.mean_),
                              scale=floats(1 / scaler.scale_)),
             helper.make_node("LinearClassifier", ["s"], ["y", "p"], domain=DOMAIN, coefficients=floats(w),
                              intercepts=floats(b), multi_class=int(multinomial),
                              classlabels_strings=[f"class {c}" for c in model.classes_],
                              post_transform="SOFTMAX" if multinomial else "LOGISTIC"),
             helper.make_node("Normalizer", ["p"], ["z"], domain=DOMAIN, norm="L1")]
    scaled = scaler.transform(x)
    labels = np.array([f"class {c}" for c in model.predict(scaled)])
    return nodes, [("y", TensorProto.STRING), ("z", FLOAT)], [labels, model.predict_proba(scaled)]


def vectors(model):
    return {"support_vectors": floats(model.support_vectors_), "coefficients": floats(model._dual_coef_),
            "rho": floats(model._intercept_), "kernel_type": model.kernel.upper(),
            "kernel_params": floats([model._gamma, model.coef0, model.degree])}


def svc(model, x):
    probability = {"prob_a": floats(model.probA_), "prob_b": floats(model.probB_)} if model.probability else {}
    node = helper.make_node("SVMClassifier", ["x"], ["y", "z"], domain=DOMAIN,
                            vectors_per_class=[int(n) for n in model._n_support],
                            classlabels_ints=[int(c) for c in model.classes_], **vectors(model), **probability)
    scores = model.predict_proba(x) if model.probability else None
    return [node], [("y", INT64), ("z", FLOAT)], [model.predict(x), scores]


def svr(model, x, one_class):
    node = helper.make_node("SVMRegressor", ["x"], ["z"], domain=DOMAIN, n_supports=len(model.support_vectors_),
                            one_class=int(one_class), **vectors(model))
    return [node], [("z", FLOAT)], [model.predict(x)[:, None]]


def cases():
    iris, digits, sugar = datasets.load_iris(), datasets.load_digits(), datasets.load_diabetes()
    x, y = iris.data.astype(np.float32), iris.target
    two = y > 0
    pictures = digits.data.astype(np.float32)
    body = sugar.data.astype(np.float32)
    for dtype in (np.float32, np.float64):
        exact = dtype == np.float64
        name = np.dtype(dtype).name
        model = ensemble.RandomForestClassifier(30, random_state=0).fit(x, y)
        yield f"forest of 3 classes, {name}", x.astype(dtype), forest(model, x, exact)
        model = ensemble.RandomForestClassifier(31, max_depth=3, random_state=0).fit(x[two], y[two])
        yield f"forest of 2 classes, {name}", x.astype(dtype), forest(model, x, exact)
        model = ensemble.RandomForestClassifier(100, random_state=0).fit(pictures, digits.target)
        yield f"forest of 10 classes, {name}", pictures.astype(dtype), forest(model, pictures, exact)
        model = tree.DecisionTreeRegressor(random_state=0).fit(body, sugar.target)
        yield f"tree, {name}", body.astype(dtype), tree_regressor(model, [model.tree_], body, 1, 0, exact)
        model = ensemble.GradientBoostingRegressor(random_state=0).fit(body, sugar.target)
        trees = [e[0].tree_ for e in model.estimators_]
        yield (f"boosted trees, {name}", body.astype(dtype),
               tree_regressor(model, trees, body, model.learning_rate, model.init_.constant_[0][0], exact))
    for labels, rows in ((y, slice(None)), (y, two)):
        model = linear_model.LogisticRegression(max_iter=1000)
        model.y = labels[rows]
        yield f"logistic regression of {len(set(model.y))} classes", x[rows], logistic(model, x[rows])
    for kernel in ("linear", "poly", "rbf", "sigmoid"):
        for probability in (False, True):
            for rows in (slice(None), two):
                model = svm.SVC(kernel=kernel, probability=probability, gamma=0.05, coef0=0.5, random_state=0)
                model.fit(x[rows], y[rows])
                yield f"SVC {kernel}, {len(model.classes_)} classes, {probability}", x[rows], svc(model, x[rows])
    model = svm.SVR(kernel="rbf", C=100).fit(body, sugar.target)
    yield "SVR", body, svr(model, body, False)
    model = svm.OneClassSVM(gamma=0.3, nu=0.2).fit(x)
    yield "one-class SVM", x, svr(model, x, True)


def main():
    failures = 0
    for name, x, (nodes, outputs, expected) in cases():
        for options in ([], ["--opt", "none"]):
            got = run(sys.argv[1], nodes, x, outputs, options)
            for (output, _), g, e in zip(outputs, got, expected):
                if e is None:
                    continue
                # Labels next to a border may fall either way: the parameters are rounded to f32, and
                # probabilities of SVMs end an iteration.
                same = (g == e).mean() if output == "y" else np.isclose(g, e, rtol=1e-3, atol=2e-3).mean()
                if g.shape != e.shape or same < (0.99 if output == "y" else 1):
                    failures += 1
                    print(f"{name} {options}: {output} {g.shape} {e.shape}, {same:.1%} equal")
    print(f"{failures} differences")
    sys.exit(1 if failures else 0)


main()

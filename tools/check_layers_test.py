#!/usr/bin/python3
"""check_layers.py finds what it must find, and nothing else."""

import pathlib
import tempfile
import unittest

import check_layers

RULES = "base:\ntensor: base\nhttp: base tensor\n<boost>: http\n"


class CheckLayers(unittest.TestCase):
    def problems(self, files, rules=RULES):
        with tempfile.TemporaryDirectory() as root:
            for name, text in {"layers.txt": rules, **files}.items():
                path = pathlib.Path(root) / "src" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return check_layers.check(root)

    def test_allowed_includes_pass(self):
        self.assertEqual(self.problems({
            "tensor/a.cc": '#include "base/result.h"\n#include "tensor/a.h"\n#include <vector>\n',
            "http/b.h": "#include <boost/asio.hpp>\n",
        }), [])

    def test_an_include_from_a_higher_layer_is_named_with_its_line(self):
        [problem] = self.problems({"tensor/a.h": '\n#include "http/server.h"\n'})
        self.assertIn("a.h:2: layer tensor may not include", problem)

    def test_a_library_is_kept_to_its_layers(self):
        [problem] = self.problems({"tensor/a.h": "#  include <boost/asio.hpp>\n"})
        self.assertIn("only http", problem)

    def test_a_library_in_quotes_is_a_library(self):
        self.assertEqual(len(self.problems({"tensor/a.h": '#include "boost/a.h"\n', "http/b.h": '#include "boost/a.h"\n'})), 1)

    def test_an_include_without_a_layer_is_refused(self):
        self.assertEqual(len(self.problems({"base/a.h": '#include "b.h"\n'})), 1)

    def test_a_folder_that_is_no_layer_is_refused(self):
        self.assertEqual(len(self.problems({"util/a.h": ""})), 1)

    def test_a_link_that_the_rules_do_not_allow_is_refused(self):
        cmake = "dunlin_layer(tensor USES base http LIBS z::z)\n"
        [problem] = self.problems({"tensor/CMakeLists.txt": cmake})
        self.assertIn("tensor links http", problem)

    def test_a_cycle_in_the_rules_is_refused(self):
        [problem] = self.problems({}, "base: tensor\ntensor: base\n")
        self.assertIn("base uses tensor", problem)


if __name__ == "__main__":
    unittest.main()

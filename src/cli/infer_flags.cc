#include "cli/infer_flags.h"

#include "cli/input_flags.h"

namespace dunlin::cli {
namespace {

void AddRemote(CLI::App* app, RemoteOptions& o, std::string& model, std::string& version) {
  app->add_option("URL", o.url, "Such as http://localhost:8000; also https://, grpc://, grpcs://")
      ->required();
  app->add_option("MODEL", model, "Name of a model the server has")->required();
  app->add_option("--model-version", version, "Default: the server's choice")->type_name("N");
  app->add_option("--timeout", o.timeout_seconds, "Seconds to wait for each answer")
      ->capture_default_str()
      ->check(Quiet(CLI::Range(0.001, 86400.0)));
  Repeated(app, "--header", o.headers, "Sent with every request: 'Name: value'. Repeatable")
      ->type_name("TEXT");
  app->add_option("--token-file", o.token_file, "Its first line is sent as a bearer token")
      ->type_name("FILE");
  app->add_option("--ca-file", o.tls.ca_file,
                  "Whose certificates to believe (PEM; default: the system's)")
      ->type_name("FILE");
  app->add_option("--cert", o.tls.certificate, "The client's own certificate (PEM)")
      ->type_name("FILE");
  app->add_option("--key", o.tls.key, "Its key (PEM)")->type_name("FILE");
  app->get_option("--cert")->needs("--key");
  app->get_option("--key")->needs("--cert");
}

void AddCall(CLI::App* app, std::vector<std::string>& parameters, std::vector<std::string>& wanted,
             bool& shared_memory) {
  Repeated(app, "--parameter", parameters,
           "Of the request, such as timeout=5000 (microseconds) or priority=1. Repeatable");
  Repeated(app, "--output", wanted, "Ask for this output only. Repeatable")->type_name("NAME");
  app->add_option_function<std::string>(
         "--shared-memory", [&shared_memory](const std::string&) { shared_memory = true; },
         "'system': tensors go through memory that this machine's server shares")
      ->check(Quiet(CLI::IsMember({"system"})))
      ->type_name("system");
}

void AddLoad(CLI::App* app, PerfCommand& c) {
  const char* group = "Load";
  CLI::Option* concurrency = app->add_option("--concurrency", c.concurrency,
                                             "Closed loop: so many requests in flight (1)");
  CLI::Option* rate = app->add_option("--request-rate", c.request_rate,
                                      "Open loop: so many requests due per second");
  CLI::Option* trace = app->add_option(
      "--trace", c.trace, "Open loop: requests due as in this file, a time in seconds per line");
  concurrency->type_name("N[:N:STEP]")->excludes(rate)->excludes(trace)->group(group);
  rate->type_name("R[:R:STEP]")->excludes(trace)->group(group);
  trace->type_name("FILE")->group(group);
  Choice(app, "--arrival", c.arrival,
         {{"poisson", ArrivalKind::kPoisson}, {"constant", ArrivalKind::kConstant}},
         "Of --request-rate (poisson)");
  app->get_option("--arrival")->needs(rate)->group(group);
  app->add_option("--speed", c.speed, "Of --trace: so many times as fast")
      ->capture_default_str()
      ->check(Quiet(CLI::Range(1e-6, 1e6)))
      ->needs(trace)
      ->group(group);
  app->add_option("--max-outstanding", c.max_outstanding,
                  "Open loop: requests in flight at most; others count as not sent")
      ->capture_default_str()
      ->check(Quiet(CLI::Range(1, 100'000)))
      ->group(group);
  app->add_option("--payloads", c.payloads,
                  "Different generated requests, sent in turn (16, or 64 with ranges)")
      ->type_name("N")
      ->check(Quiet(CLI::Range(1, 100'000)))
      ->group(group);
}

void AddMeasuring(CLI::App* app, PerfCommand& c) {
  const char* group = "Measuring";
  const auto number = [app, group](const char* name, auto& value, const char* help, double least) {
    return app->add_option(name, value, help)
        ->capture_default_str()
        ->check(Quiet(CLI::Range(least, 1e6)))
        ->group(group);
  };
  number("--warmup", c.warmup_seconds, "Seconds of load before measuring", 0);
  number("--window", c.window_seconds, "Seconds of a window", 0.01);
  number("--max-windows", c.max_windows, "Ends after so many though it is not steady", 3);
  number("--stability", c.stability_percent,
         "Ends when three windows' throughput and p99 are within so many percent", 0.1);
  app->add_option("--seconds", c.seconds, "Measure just so long instead")
      ->check(Quiet(CLI::Range(0.01, 1e6)))
      ->group(group);
  app->add_flag("!--no-check", c.check, "Do not compare answers with the first one")->group(group);
  number("--tolerance", c.tolerance, "Floats that differ by less, absolute or relative, are equal",
         0);
  app->add_option("--server-pid", c.server_pid, "Measure this process's CPU time")
      ->type_name("PID")
      ->check(Quiet(CLI::PositiveNumber))
      ->group(group);
  app->add_option("--metrics-url", c.metrics_url,
                  "Read the server's CPU time there, such as http://localhost:8002/metrics")
      ->type_name("URL")
      ->group(group);
  CLI::Option* json = app->add_flag("--json", c.json, "One JSON object");
  app->add_flag("--csv", c.csv, "A line per level")->excludes(json);
  app->add_option("--plot", c.plot, "Draw the latencies (SVG)")->type_name("FILE");
}

}  // namespace

void AddInfer(Commands& commands, InferCommand& c) {
  CLI::App* app = commands.Add(
      "infer", "Send one request to a server that speaks the Open Inference Protocol v2.",
      "  dunlin infer http://localhost:8000 tiny_fashion --input boot.png --top-k 3\n"
      "  dunlin infer http://localhost:8000 ppocr_cls --input x=x.npy --output-dir out\n"
      "  dunlin infer https://host tiny_fashion --ca-file ca.pem --token-file token "
      "--classification 3",
      [&c](Stage& s) { return Infer(c, s); });
  AddRemote(app, c.server, c.model, c.version);
  app->add_option("--request-id", c.request_id, "The server's logs and traces have it")
      ->type_name("TEXT");
  AddCall(app, c.parameters, c.wanted, c.shared_memory);
  app->add_option("--classification", c.classes,
                  "Let the server answer with the N best classes and their labels")
      ->type_name("N")
      ->check(Quiet(CLI::Range(1, 1'000'000)))
      ->excludes("--shared-memory");
  AddInputs(app, c.inputs);
  AddImages(app, c.inputs.image);
  AddOutputs(app, c.outputs);
  app->get_option("--classification")->excludes("--top-k");
}

void AddPerf(Commands& commands, PerfCommand& c) {
  CLI::App* app = commands.Add(
      "perf", "Put load on a server that speaks the Open Inference Protocol v2, and measure.",
      "  dunlin perf http://localhost:8000 ppocr_cls --concurrency 1:16:5\n"
      "  dunlin perf http://localhost:8000 ppocr_cls --request-rate 200 --seconds 30\n"
      "  dunlin perf http://localhost:8000 minilm --shape input_ids=1,8-128 --shape "
      "attention_mask=1,8-128 --concurrency 4\n"
      "  dunlin perf http://localhost:8000 ppocr_cls --trace arrivals.csv --speed 20 --plot "
      "latency.svg",
      [&c](Stage& s) { return Perf(c, s); });
  AddRemote(app, c.server, c.model, c.version);
  AddLoad(app, c);
  AddMeasuring(app, c);
  AddCall(app, c.parameters, c.wanted, c.shared_memory);
  app->add_option("-b,--batch", c.inputs.batch, "First extent of every input that leaves it open")
      ->type_name("N")
      ->check(Quiet(CLI::PositiveNumber));
  AddInputs(app, c.inputs);
  AddImages(app, c.inputs.image);
  app->get_option("--shape")->description(
      "Extents of an input: NAME=1,8-128; a range is drawn anew per request. Repeatable");
}

}  // namespace dunlin::cli

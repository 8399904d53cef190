#include "cli/input_flags.h"

#include <algorithm>

namespace dunlin::cli {
namespace {

constexpr const char* kInputHelp =
    "Inputs. NAME= may be left out when the model has one input. What is not given is generated "
    "from --seed.\n"
    "Files: .npy; .bin or .raw (little endian, extents from the model or --shape); PNG and JPEG.";

CLI::Option* List(CLI::App* app, const std::string& name, std::vector<float>& values,
                  const std::string& help) {
  return app->add_option(name, values, help)
      ->allow_extra_args(false)
      ->delimiter(',')
      ->type_name("A,B,C");
}

void AddSize(CLI::App* app, const std::string& name, std::optional<ImageSize>& size,
             const std::string& help) {
  app->add_option_function<std::string>(
         name,
         [&size, name](const std::string& text) {
           const auto dims = ParseShape(text);
           if (!dims || dims->size() != 2 || (*dims)[0] < 1 || (*dims)[1] < 1 ||
               std::max((*dims)[0], (*dims)[1]) > kMaxImagePixels)
             throw CLI::ValidationError(name,
                                        fmt::format("'{}' is not a size such as 224,224", text));
           size = ImageSize{int((*dims)[0]), int((*dims)[1])};
         },
         help)
      ->type_name("W,H");
}

}  // namespace

CLI::Option* Repeated(CLI::App* app, const std::string& name, std::vector<std::string>& values,
                      const std::string& help) {
  return app->add_option(name, values, help)->allow_extra_args(false)->type_name("NAME=VALUE");
}

void AddShapes(CLI::App* app, InputOptions& o) {
  Repeated(app, "--shape", o.shapes, "Extents of an input: NAME=1,3,224,224. Repeatable");
}

void AddInputs(CLI::App* app, InputOptions& o) {
  app->footer(app->get_footer() + "\n\n" + kInputHelp);
  Repeated(app, "-i,--input", o.files, "Read an input from a file: NAME=FILE. Repeatable")
      ->type_name("NAME=FILE");
  AddShapes(app, o);
  Repeated(app, "--fill", o.fills, "Every element of an input: NAME=VALUE. Repeatable");
  app->add_option("--seed", o.seed, "Of generated inputs")->capture_default_str();
  app->add_option("--intmax", o.intmax,
                  "Generated integers are 0…N-1 (2; 8-bit ones take their whole range)")
      ->type_name("N")
      ->check(Quiet(CLI::PositiveNumber));
}

void AddImages(CLI::App* app, ImageOptions& o) {
  const char* group = "Pictures: value = (sample * scale - mean) / std";
  AddSize(app, "--resize", o.resize, "Resize to this (default: the model's extents)");
  AddSize(app, "--crop", o.crop, "Then cut this out of the middle");
  List(app, "--mean", o.mean, "Per channel, or one for all (0)");
  List(app, "--std", o.std, "Per channel, or one for all (1)");
  app->add_option("--scale", o.scale,
                  "Factor for samples 0…255 (1/255 for float inputs, 1 for integers)")
      ->type_name("F");
  Choice<std::optional<ImageLayout>>(app, "--layout", o.layout,
                                     {{"nchw", ImageLayout::kNchw}, {"nhwc", ImageLayout::kNhwc}},
                                     "Where the channels are (default: found in the model)");
  Choice(app, "--channels", o.channels, {{"rgb", ChannelOrder::kRgb}, {"bgr", ChannelOrder::kBgr}},
         "Order of the channels (rgb)");
  for (const char* name :
       {"--resize", "--crop", "--mean", "--std", "--scale", "--layout", "--channels"})
    app->get_option(name)->group(group);
}

void AddOutputs(CLI::App* app, OutputOptions& o) {
  app->add_option("-o,--output-dir", o.output_dir,
                  "Write each output to DIR/NAME.npy ('/' in names becomes '_')")
      ->type_name("DIR");
  app->add_option("-k,--top-k", o.top_k, "Print the K best classes of each row")
      ->type_name("K")
      ->check(Quiet(CLI::PositiveNumber));
  app->add_option("--labels", o.labels, "Names of the classes, one per line (with --top-k)")
      ->type_name("FILE")
      ->needs("--top-k");
}

}  // namespace dunlin::cli

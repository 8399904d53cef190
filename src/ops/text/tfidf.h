// TfIdfVectorizer (ONNX opset 9): counts n-grams of a pool in sequences of strings or integers.
//   x [C] or [N,C] -> y [T] or [N,T], T = 1 + the highest of ngram_indexes
#pragma once

#include <string>
#include <vector>

#include "ops/op.h"

namespace dunlin {

struct TfIdfVectorizer {
  struct Attrs {
    int64_t max_gram_length = 1, min_gram_length = 1, max_skip_count = 0;
    std::string mode = "TF";  // TF: count; IDF: weight where it occurs; TFIDF: count times weight
    std::vector<int64_t> ngram_counts;   // where the 1-grams, 2-grams … begin in the pool
    std::vector<int64_t> ngram_indexes;  // of each n-gram of the pool: its place in y
    std::vector<int64_t> pool_int64s;
    std::vector<std::string> pool_strings;
    std::vector<float> weights;  // of each n-gram of the pool; none: 1
    template <class V>
    void Visit(V& v) {
      v("max_gram_length", max_gram_length);
      v("min_gram_length", min_gram_length);
      v("max_skip_count", max_skip_count);
      v("mode", mode);
      v("ngram_counts", ngram_counts);
      v("ngram_indexes", ngram_indexes);
      v("pool_int64s", pool_int64s);
      v("pool_strings", pool_strings);
      v("weights", weights);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx);
  static Status Reference(const Attrs& a, RunContext& ctx);
};

}  // namespace dunlin

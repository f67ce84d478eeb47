#pragma once
// A model, and the threads and memory to run it.
#include <memory>
#include <vector>

#include "forward.h"

namespace kernels {

// Those that this processor has, the fastest first.
std::vector<const Instructions*> instructionsHere();

class Session {
 public:
  Session(const Instructions& instructions, std::unique_ptr<Model> model, int threads);

  // @param lengths tokens of each text, which lie in `ids` one behind the other
  // @param pooled [texts, hidden]
  void encode(const int32_t* ids, const int32_t* lengths, int texts, float* pooled);

  const Shape& shape() const { return model_->shape; }

 private:
  void together(const Batch& batch);
  void apart(const Batch& batch);

  const Instructions& instructions_;
  std::unique_ptr<Model> model_;
  Team team_;
  std::vector<Scratch> scratch_;            // of each thread
  std::vector<AttentionScratch> attention_;
  std::unique_ptr<Phase[]> phases_;
};

}  // namespace kernels

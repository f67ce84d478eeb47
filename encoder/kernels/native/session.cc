#include "session.h"

#include <algorithm>

namespace kernels {

namespace {

// Up to so many tokens the threads share every product. With more, each takes groups of whole texts as they come: whoever
// has to wait for a core, beside those who answer requests, keeps no other waiting then.
constexpr int kTogether = 128;
// Tokens of such a group, about: their states stay in a core's second cache.
constexpr int kGroup = 84;

}  // namespace

std::vector<const Instructions*> instructionsHere() {
  std::vector<const Instructions*> here;
  for (const Instructions* each : {&kAvx512Vnni, &kAvx2})
    if (each->isHere()) here.push_back(each);
  return here;
}

Session::Session(const Instructions& instructions, std::unique_ptr<Model> model, int threads)
    : instructions_(instructions),
      model_(std::move(model)),
      team_(threads),
      scratch_(threads),
      attention_(threads),
      phases_(new Phase[phasesOf(model_->shape)]) {}

void Session::encode(const int32_t* ids, const int32_t* lengths, int texts, float* pooled) {
  std::vector<int32_t> starts(texts + 1);
  for (int text = 0; text < texts; text++) starts[text + 1] = starts[text] + lengths[text];
  const int longest = *std::max_element(lengths, lengths + texts);
  for (AttentionScratch& each : attention_) each.reserve(shape(), longest);
  const Batch batch{ids, starts.data(), texts, pooled};
  if (batch.tokens() <= kTogether || texts < 2 * team_.threads())
    together(batch);
  else
    apart(batch);
}

void Session::together(const Batch& batch) {
  scratch_[0].reserve(shape(), batch.tokens());
  for (int i = 0; i < phasesOf(shape()); i++) {
    phases_[i].next.store(0, std::memory_order_relaxed);
    phases_[i].done.store(0, std::memory_order_relaxed);
  }
  team_.run([&](int thread) {
    instructions_.together(*model_, batch, scratch_[0], attention_[thread], Together(phases_.get(), team_.threads()));
  });
}

void Session::apart(const Batch& batch) {
  const int threads = team_.threads();
  const int rounds = (batch.tokens() + threads * kGroup - 1) / (threads * kGroup);
  const int groups = rounds * threads;
  // As many tokens in each: a text is of the group that its middle falls into.
  std::vector<int> ends;
  for (int text = 0; text < batch.texts; text++) {
    const int64_t middle = int64_t(batch.starts[text]) + batch.starts[text + 1];
    while (middle * groups >= int64_t(2) * batch.tokens() * int64_t(ends.size() + 1)) ends.push_back(text);
  }
  ends.resize(groups, batch.texts);
  const auto partOf = [&](int group) {
    const int first = group == 0 ? 0 : ends[group - 1];
    return Batch{batch.ids, batch.starts + first, ends[group] - first, batch.pooled + size_t(first) * shape().hidden};
  };
  // Here, where there is somebody to tell when there is no memory.
  int most = 0;
  for (int group = 0; group < groups; group++) most = std::max(most, partOf(group).tokens());
  for (Scratch& each : scratch_) each.reserve(shape(), most);
  std::atomic<int> next{0};
  team_.run([&](int thread) {
    for (int group; (group = next.fetch_add(1, std::memory_order_relaxed)) < groups;) {
      const Batch part = partOf(group);
      if (part.texts > 0) instructions_.alone(*model_, part, scratch_[thread], attention_[thread], Alone());
    }
  });
}

}  // namespace kernels

#include "forward.h"

#include <algorithm>

namespace kernels {

void Scratch::reserve(const Shape& shape, int tokens) {
  if (tokens <= tokens_) return;
  const size_t n = size_t(tokens);
  const size_t wideRow = std::max(3 * shape.hidden, shape.inner);
  const size_t integersRow = std::max(shape.hidden, shape.inner);
  const auto room = [&](size_t bytes) { return Arena::room(n * bytes); };
  const size_t scaleRow = std::max(blocksOf(shape.hidden, shape.bits), blocksOf(shape.inner, shape.bits));
  arena_ = std::make_unique<Arena>(2 * room(4 * shape.hidden) + room(4 * wideRow) +
                                   room(integersRow * shape.bits / 8) + room(4 * scaleRow));
  hidden = arena_->take<float>(n * shape.hidden);
  wide = arena_->take<float>(n * wideRow);
  mixed = arena_->take<float>(n * shape.hidden);
  integers = arena_->take<int8_t>(n * integersRow * shape.bits / 8);
  scale = arena_->take<float>(n * scaleRow);
  tokens_ = tokens;
}

void AttentionScratch::reserve(const Shape& shape, int longest) {
  if (longest <= longest_) return;
  const size_t places = size_t(longest + kPlaces - 1) / kPlaces * kPlaces;
  const size_t size = shape.hidden / shape.heads;
  arena_ = std::make_unique<Arena>(Arena::room(4 * places * size) + Arena::room(4 * places * kAttentionRows));
  keys = arena_->take<float>(places * size);
  scores = arena_->take<float>(places * kAttentionRows);
  longest_ = longest;
}

}  // namespace kernels

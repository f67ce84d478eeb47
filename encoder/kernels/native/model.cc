#include "model.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <new>
#include <numeric>
#include <stdexcept>

namespace kernels {

namespace {

constexpr size_t kLargePage = size_t(1) << 21;

// Of a word's embedding.
constexpr float kLargestWord = 127;

float scaleOf(const float* numbers, int n, int bits) {
  float largest = 0;
  double squares = 0;
  for (int i = 0; i < n; i++) {
    largest = std::max(largest, std::fabs(numbers[i]));
    squares += double(numbers[i]) * numbers[i];
  }
  const float scale = bits == 16 ? std::max(float(std::sqrt(squares)) / kLongest16, largest / kLargest16)
                                 : largest / kLargestWeight8;
  return scale > 0 ? scale : 1;
}

// Writes a part of a dense layer's weights: outputs [first, first + count).
void fill(const Dense& dense, const Shape& shape, int first, int count, const float* weights) {
  const int group = 32 / shape.bits;
  const int groups = dense.in / group;
  const int size = blockOf(dense.in, shape.bits);
  for (int o = 0; o < count; o++) {
    const int at = first + o;
    const float* row = weights + size_t(o) * dense.in;
    const int panel = at / shape.columns;
    const int column = at % shape.columns;
    int32_t sum = 0;
    for (int block = 0; block * size < dense.in; block++) {
      const int begin = block * size;
      const int end = std::min(dense.in, begin + size);
      const float scale = scaleOf(row + begin, end - begin, shape.bits);
      dense.scale[size_t(block) * dense.out + at] = scale;
      for (int i = begin; i < end; i++) {
        const int value = int(std::lrintf(row[i] / scale));
        sum += value;
        const size_t place = ((size_t(panel) * groups + i / group) * shape.columns + column) * group + i % group;
        if (shape.bits == 16)
          reinterpret_cast<int16_t*>(dense.weights)[place] = int16_t(value);
        else
          dense.weights[place] = int8_t(value);
      }
    }
    dense.start[at] = shape.bits == 16 ? 0 : -kZero8 * sum;
  }
}

// The integers of 8 bits and the scale that a row was made of: it is their product to the last bit.
// @returns whether there are any; they are the nearest ones otherwise
bool integersOf(const float* row, int n, int8_t* integers, float* scale) {
  float largest = 0;
  for (int i = 0; i < n; i++) largest = std::max(largest, std::fabs(row[i]));
  const float nearest = largest > 0 ? largest / kLargestWord : 1;
  const auto tryScale = [&](float candidate) {
    bool isExact = true;
    for (int i = 0; i < n; i++) {
      integers[i] = int8_t(std::lrintf(row[i] / candidate));
      isExact = isExact && integers[i] * candidate == row[i];
    }
    *scale = candidate;
    return isExact;
  };
  // 127 scales, rounded, over 127 may be the scale's neighbour.
  return tryScale(std::nextafter(nearest, 0.0f)) || tryScale(std::nextafter(nearest, 2 * nearest)) || tryScale(nearest);
}

}  // namespace

Arena::Arena(size_t bytes) : size_((bytes + kLargePage - 1) / kLargePage * kLargePage) {
  void* block = mmap(nullptr, size_ + kLargePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) throw std::bad_alloc();
  // What lies before and behind the whole pages is given back.
  char* first = static_cast<char*>(block);
  begin_ = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(first) + kLargePage - 1) & ~(kLargePage - 1));
  if (begin_ > first) munmap(first, begin_ - first);
  char* end = first + size_ + kLargePage;
  if (end > begin_ + size_) munmap(begin_ + size_, end - (begin_ + size_));
#ifdef MADV_HUGEPAGE
  // A wish: where it can't be granted, pages are small.
  madvise(begin_, size_, MADV_HUGEPAGE);
#endif
}

Arena::~Arena() { munmap(begin_, size_); }

void* Arena::bytes(size_t count) {
  char* at = begin_ + used_;
  used_ += room(count);
  if (used_ > size_) throw std::bad_alloc();
  return at;
}

bool isPossible(const Shape& shape) {
  const auto isSize = [](int size, int multiple) { return size > 0 && size % multiple == 0; };
  return isSize(shape.hidden, 32) && isSize(shape.inner, 32) && isSize(shape.heads, 1) &&
         isSize(shape.hidden, shape.heads) && isSize(shape.hidden / shape.heads, 16) && isSize(shape.layers, 1) &&
         isSize(shape.vocabulary, 1) && isSize(shape.positions, 1) && isSize(shape.types, 1) &&
         (shape.bits == 16 || shape.bits == 8);
}

Loader::Loader(const Shape& shape) : model_(std::make_unique<Model>()) {
  Model& model = *model_;
  model.shape = shape;
  const int h = shape.hidden;
  const int m = shape.inner;
  const auto room = [](size_t floats) { return Arena::room(floats * sizeof(float)); };
  const auto denseRoom = [&](int in, size_t out) {
    return Arena::room(in * out * (shape.bits / 8)) + room(blocksOf(in, shape.bits) * out) + 2 * room(out);
  };
  model.arena = std::make_unique<Arena>(
      room(size_t(shape.positions) * h) + 2 * room(h) +
      shape.layers * (denseRoom(h, 3 * h) + denseRoom(h, h) + denseRoom(h, m) + denseRoom(m, h) + 4 * room(h)));
  const size_t positions = size_t(shape.positions) * h;
  model.positionRows = model.arena->take<float>(positions);

  expected_.push_back({size_t(shape.vocabulary) * h, [this](const float* rows) { packWords(rows); }});
  expected_.push_back({positions, [this, positions](const float* rows) {
                         std::copy_n(rows, positions, model_->positionRows);
                       }});
  expected_.push_back({size_t(shape.types) * h, [this, positions, h](const float* rows) {
                         for (size_t i = 0; i < positions; i++) model_->positionRows[i] += rows[i % h];
                       }});
  expectNorm(model.embedded);
  // Those that are waited for hold references.
  model.layers.resize(shape.layers);
  for (Layer& layer : model.layers) {
    expectDense(layer.qkv, h, {h, h, h});
    expectDense(layer.projection, h, {h});
    expectNorm(layer.afterAttention);
    expectDense(layer.up, h, {m});
    expectDense(layer.down, m, {h});
    expectNorm(layer.afterInner);
  }
}

void Loader::packWords(const float* rows) {
  Model& model = *model_;
  const Shape& shape = model.shape;
  const size_t h = shape.hidden;
  const size_t count = shape.vocabulary * h;
  std::vector<int8_t> integers(count);
  std::vector<float> scale(shape.vocabulary);
  bool inIntegers = true;
  for (int row = 0; row < shape.vocabulary && inIntegers; row++) {
    const bool isExact = integersOf(rows + row * h, shape.hidden, integers.data() + row * h, &scale[row]);
    inIntegers = isExact || shape.bits == 8;
  }
  if (inIntegers) {
    model.words = std::make_unique<Arena>(Arena::room(count) + Arena::room(shape.vocabulary * sizeof(float)));
    model.wordIntegers = model.words->take<int8_t>(count);
    model.wordScale = model.words->take<float>(shape.vocabulary);
    std::copy(integers.begin(), integers.end(), model.wordIntegers);
    std::copy(scale.begin(), scale.end(), model.wordScale);
  } else {
    model.words = std::make_unique<Arena>(Arena::room(count * sizeof(float)));
    model.wordRows = model.words->take<float>(count);
    std::copy_n(rows, count, model.wordRows);
  }
}

void Loader::expectNorm(Norm& norm) {
  const size_t h = model_->shape.hidden;
  for (float** part : {&norm.weight, &norm.bias}) {
    float* numbers = *part = model_->arena->take<float>(h);
    expected_.push_back({h, [numbers, h](const float* from) { std::copy_n(from, h, numbers); }});
  }
}

// @param parts outputs of the layers that it is made of, side by side
void Loader::expectDense(Dense& dense, int in, const std::vector<int>& parts) {
  Arena& arena = *model_->arena;
  const int bits = model_->shape.bits;
  const int out = std::accumulate(parts.begin(), parts.end(), 0);
  dense = {in,
           out,
           arena.take<int8_t>(size_t(in) * out * (bits / 8)),
           arena.take<float>(size_t(blocksOf(in, bits)) * out),
           arena.take<float>(out),
           arena.take<int32_t>(out)};
  int first = 0;
  for (const int count : parts) {
    expected_.push_back({size_t(in) * count, [this, &dense, first, count](const float* weights) {
                           fill(dense, model_->shape, first, count, weights);
                         }});
    expected_.push_back({size_t(count), [&dense, first, count](const float* biases) {
                           std::copy_n(biases, count, dense.bias + first);
                         }});
    first += count;
  }
}

void Loader::write(const float* numbers, size_t count) {
  while (count > 0) {
    if (next_ == expected_.size()) throw std::length_error("more weights than the model has");
    const Tensor& tensor = expected_[next_];
    const size_t taken = std::min(count, tensor.size - begun_.size());
    begun_.insert(begun_.end(), numbers, numbers + taken);
    numbers += taken;
    count -= taken;
    if (begun_.size() < tensor.size) return;
    tensor.take(begun_.data());
    next_++;
    // With its memory: the first tensor is most of a small model.
    std::vector<float>().swap(begun_);
    if (next_ < expected_.size()) begun_.reserve(expected_[next_].size);
  }
}

std::unique_ptr<Model> Loader::finish() {
  if (next_ < expected_.size()) throw std::length_error("fewer weights than the model has");
  return std::move(model_);
}

}  // namespace kernels

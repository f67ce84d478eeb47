#pragma once
// A BERT's weights as the kernels read them.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace kernels {

// Memory that is freed with its owner, at the start of a page of 2 MiB: weights are read from end to end for every batch.
class Arena {
 public:
  explicit Arena(size_t bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  // Zeros, at a multiple of 64 bytes.
  template <class T>
  T* take(size_t count) {
    return static_cast<T*>(bytes(count * sizeof(T)));
  }
  static size_t room(size_t bytes) { return (bytes + 63) / 64 * 64; }

 private:
  void* bytes(size_t count);
  char* begin_;
  size_t size_;
  size_t used_ = 0;
};

// Integers of 16 bits are so large that no sum of products leaves 32 bits: by Cauchy and Schwarz it is at most the product
// of the lengths of both vectors, of less than 2^15.5 each. (What rounding adds is in the margin.) The vectors are blocks of
// a row, which have a scale each and whose sums are added as floats: the shorter they are, the larger are the integers and
// the less is rounded, and a single large number, as BERT's states have, makes only those beside it coarse.
constexpr int kBlock16 = 96;
constexpr float kLongest16 = 46000;
constexpr float kLargest16 = 32767;
// Of an activation in 8 bits.
constexpr float kLargest8 = 127;
constexpr int kZero8 = 128;
// Of a weight: 7 bits, the same integers as in the ONNX graph, as pairs of products of 8 bits overflow without VNNI.
constexpr float kLargestWeight8 = 63;

// The size of blocks of a row of n: in 8 bits there is one.
inline int blockOf(int n, int bits) { return bits == 16 && n > kBlock16 ? kBlock16 : n; }
inline int blocksOf(int n, int bits) { return (n + blockOf(n, bits) - 1) / blockOf(n, bits); }

// A dense layer: y = x W' + b, W [out, in] in integers with a scale for each output and block of inputs.
//
// The weights lie in panels of `columns` outputs: for each group of inputs that fills 32 bits (two of 16 bits, four of 8)
// the group of every output, so that one instruction multiplies a group of a row by those of as many outputs as a vector
// has lanes. Row x is integers too, with scales of its own.
struct Dense {
  int in;
  int out;
  int8_t* weights;
  float* scale;       // [blocks, out]
  float* bias;        // [out]
  int32_t* start;     // [out]: what a sum in 8 bits begins with: takes out what the zero of a row adds
};

struct Norm {
  float* weight;
  float* bias;
};

struct Layer {
  Dense qkv;  // queries, keys and values, side by side
  Dense projection;
  Norm afterAttention;
  Dense up;
  Dense down;
  Norm afterInner;
};

struct Shape {
  int vocabulary;
  int positions;
  int types;
  int hidden;
  int heads;
  int inner;
  int layers;
  float epsilon;
  bool byFirst;  // pooling: the first token's state, not the mean of all
  int bits;      // of an integer: 16 or 8
  int columns;   // of a panel
};

// Whether every part of it is whole vectors, whatever the instructions.
bool isPossible(const Shape& shape);

struct Model {
  Shape shape;
  std::unique_ptr<Arena> words;
  float* wordRows = nullptr;       // [vocabulary, hidden], or
  int8_t* wordIntegers = nullptr;  // the same in 8 bits
  float* wordScale = nullptr;      // with a scale for each row
  std::unique_ptr<Arena> arena;
  float* positionRows = nullptr;  // [positions, hidden], with what every token of the one type adds
  Norm embedded;
  std::vector<Layer> layers;
};

// Packs a model's weights as they come.
class Loader {
 public:
  explicit Loader(const Shape& shape);

  // The next of the weights: all tensors of BERT, each whole, in the order in which the forward pass meets them (words,
  // positions, types, their norm; in each layer query, key, value, projection, norm, up, down, norm; of a dense layer the
  // weights [out, in] before the biases), cut into pieces of any size.
  // @throws std::length_error for more than there are
  void write(const float* numbers, size_t count);

  // @throws std::length_error when some are missing
  std::unique_ptr<Model> finish();

 private:
  struct Tensor {
    size_t size;
    std::function<void(const float*)> take;
  };
  void packWords(const float* rows);
  void expectNorm(Norm& norm);
  void expectDense(Dense& dense, int in, const std::vector<int>& parts);

  std::unique_ptr<Model> model_;
  std::vector<Tensor> expected_;
  size_t next_ = 0;
  // What has come of the next tensor.
  std::vector<float> begun_;
};

}  // namespace kernels

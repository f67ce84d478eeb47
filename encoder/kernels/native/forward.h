#pragma once
// The forward pass, for whatever instructions there are.
#include <memory>
#include <vector>

#include "model.h"
#include "team.h"

namespace kernels {

// What a forward pass of up to so many tokens computes in.
class Scratch {
 public:
  void reserve(const Shape& shape, int tokens);

  float* hidden;     // [tokens, hidden]
  float* wide;       // [tokens, max(3 hidden, inner)]
  float* mixed;      // [tokens, hidden]
  int8_t* integers;  // [tokens, max(hidden, inner)] of 16 or 8 bits
  float* scale;      // [tokens, blocks of a row], of the integers

 private:
  int tokens_ = 0;
  std::unique_ptr<Arena> arena_;
};

// The same for one head's attention, for a text of so many tokens. Each thread has one.
class AttentionScratch {
 public:
  void reserve(const Shape& shape, int longest);
  float* keys;    // [size of a head, places]
  float* scores;  // [rows, places]

 private:
  int longest_ = 0;
  std::unique_ptr<Arena> arena_;
};

struct Batch {
  const int32_t* ids;     // of all texts, one behind the other
  const int32_t* starts;  // [texts + 1]: where each begins
  int texts;
  float* pooled;  // [texts, hidden]
  int tokens() const { return starts[texts] - starts[0]; }
};

// Tokens whose attention is computed at once, and what the places of a row are a multiple of: the floats of any vector.
constexpr int kAttentionRows = 4;
constexpr int kPlaces = 16;

// Phases of a forward pass, see forward-pass.h.
inline int phasesOf(const Shape& shape) { return 2 + 9 * shape.layers; }

// Instructions of a processor, and the forward pass in them: by several threads, or in each for itself.
struct Instructions {
  const char* name;
  bool (*isHere)();
  int columns;  // of a panel of weights
  void (*together)(const Model&, const Batch&, Scratch&, AttentionScratch&, Together);
  void (*alone)(const Model&, const Batch&, Scratch&, AttentionScratch&, Alone);
};

extern const Instructions kAvx512Vnni;
extern const Instructions kAvx2;

}  // namespace kernels

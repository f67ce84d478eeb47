// BERT's forward pass (Devlin et al. 2018) on one set of instructions. Who includes it defines before, in the namespace
// where it is included:
//
//   kLanes                   floats of a vector
//   kRows                    rows of a tile whose sums, with two vectors for each, stay in registers
//   Floats, Integers         vectors of kLanes floats and 32-bit integers
//   loadF, storeF, setF, addF, subF, mulF, fmaF (a b + c), maxF, minF, sumOf, largestOf, roundF
//   powerOf2                 2^n for whole numbers n, as floats
//   loadI, toFloats
//   setGroup                 32 bits in all lanes
//   add16, add8              sum + products of groups: two signed 16 bits; four 8 bits, unsigned by signed
//   store16, store8          rounds floats to signed 16 bits, or unsigned 8 bits with zero at 128
//   widen8                   signed 8 bits as floats
//
// All that a token's state goes through is computed row by row in one order, and what is summed over other rows is of its
// own text: a vector is the same, bit for bit, whatever else is in the batch.

constexpr int kVectors = 2;
constexpr int kColumns = kVectors * kLanes;

inline Floats absF(Floats x) { return maxF(x, subF(setF(0), x)); }

// e^x by a polynomial for 2^r, |r| <= 1/2 (fitted; relative error 8e-8); e^-87 for less than that.
inline Floats expF(Floats x) {
  // In this order a NaN stays one.
  const Floats scaled = mulF(maxF(setF(-87.0f), x), setF(1.44269504f));
  const Floats whole = roundF(scaled);
  const Floats r = subF(scaled, whole);
  Floats p = setF(1.326697039e-03f);
  p = fmaF(p, r, setF(9.675459746e-03f));
  p = fmaF(p, r, setF(5.550742616e-02f));
  p = fmaF(p, r, setF(2.402212175e-01f));
  p = fmaF(p, r, setF(6.931469492e-01f));
  p = fmaF(p, r, setF(1.000000071e+00f));
  return mulF(p, powerOf2(whole));
}

// x Phi(x), Phi the normal distribution's (Hendrycks & Gimpel 2016): Phi(x) - 1/2 = x p(x^2) by a polynomial (fitted to an
// absolute error of 5e-7 of x Phi(x)) up to 5.5, where 1/2 is reached to 2e-8.
inline Floats gelu(Floats x) {
  const Floats u = minF(mulF(x, x), setF(30.25f));
  const Floats t = fmaF(u, setF(2 / 30.25f), setF(-1));
  Floats p = setF(-8.765207688e-04f);
  for (const float c :
       {2.564068410e-03f, -2.616000840e-03f, 2.551306936e-03f, -6.191459056e-03f, 1.134988946e-02f, -1.542162872e-02f,
        2.006332303e-02f, -2.593125793e-02f, 3.210691917e-02f, -3.880561853e-02f, 4.773607326e-02f, -6.417195838e-02f,
        1.285519404e-01f})
    p = fmaF(p, t, setF(c));
  const Floats within = minF(maxF(x, setF(-5.5f)), setF(5.5f));
  return mulF(x, fmaF(within, p, setF(0.5f)));
}

// Integers of a row by the smallest scales, one for each block, with which none, and no sum of their products with weights,
// is too large.
template <int BITS>
inline void toIntegers(const float* row, int n, int8_t* integers, float* scale) {
  const int size = blockOf(n, BITS);
  for (int begin = 0; begin < n; begin += size) {
    const int end = n - begin < size ? n : begin + size;
    Floats largest = setF(0);
    Floats squares = setF(0);
    for (int i = begin; i < end; i += kLanes) {
      const Floats x = loadF(row + i);
      largest = maxF(largest, absF(x));
      squares = fmaF(x, x, squares);
    }
    const float length = __builtin_sqrtf(sumOf(squares));
    float step = largestOf(largest) / (BITS == 16 ? kLargest16 : kLargest8);
    if (BITS == 16 && length / kLongest16 > step) step = length / kLongest16;
    if (!(step > 1e-30f)) step = 1;
    // What is no number any more stays so to the end: integers would make one of it again.
    if (!(length < __builtin_inff())) step = __builtin_nanf("");
    *scale++ = step;
    const Floats inverse = setF(1 / step);
    for (int i = begin; i < end; i += kLanes) {
      const Floats x = mulF(loadF(row + i), inverse);
      if (BITS == 16)
        store16(reinterpret_cast<int16_t*>(integers) + i, x);
      else
        store8(reinterpret_cast<uint8_t*>(integers) + i, x);
    }
  }
}

// Layer norm (Ba et al. 2016) in place.
inline void normalize(float* row, int n, const Norm& norm, float epsilon) {
  Floats sum = setF(0);
  for (int i = 0; i < n; i += kLanes) sum = addF(sum, loadF(row + i));
  const Floats mean = setF(sumOf(sum) / n);
  Floats squares = setF(0);
  for (int i = 0; i < n; i += kLanes) {
    const Floats x = subF(loadF(row + i), mean);
    squares = fmaF(x, x, squares);
  }
  const Floats inverse = setF(1 / __builtin_sqrtf(sumOf(squares) / n + epsilon));
  for (int i = 0; i < n; i += kLanes) {
    const Floats x = mulF(subF(loadF(row + i), mean), inverse);
    storeF(row + i, fmaF(x, loadF(norm.weight + i), loadF(norm.bias + i)));
  }
}

// Products of a block of ROWS rows with that of a panel of weights: values += sum x scale of the row x scale of the column.
// The sums are in registers from first to last.
struct Block {
  const int8_t* rows;
  size_t stride;  // bytes from row to row
  const float* rowScale;
  int scaleStride;  // floats from row to row
  const int8_t* panel;
  const float* columnScale;  // [kColumns]
  const int32_t* start;      // [kColumns]
  int groups;                // of 32 bits in the block of a row
};

// f(0), f(1), ... f(N - 1) with constants: what is held in arrays by such numbers the compiler keeps in registers.
template <class F, int... I>
inline __attribute__((always_inline)) void unrolled(std::integer_sequence<int, I...>, F&& f) {
  (f(std::integral_constant<int, I>()), ...);
}
template <int N>
using UpTo = std::make_integer_sequence<int, N>;

template <int BITS, int ROWS>
void tile(const Block& block, float* values) {
  const int8_t* rows = block.rows;
  const int8_t* panel = block.panel;
  const size_t stride = block.stride;
  const int groups = block.groups;
  Integers sum[ROWS][kVectors];
  unrolled(UpTo<kVectors>(), [&](auto v) __attribute__((always_inline)) {
    const Integers begin = loadI(block.start + v * kLanes);
    unrolled(UpTo<ROWS>(), [&](auto r) __attribute__((always_inline)) { sum[r][v] = begin; });
  });
  for (int g = 0; g < groups; g++) {
    Integers weights[kVectors];
    unrolled(UpTo<kVectors>(), [&](auto v) __attribute__((always_inline)) {
      weights[v] = loadI(reinterpret_cast<const int32_t*>(panel) + v * kLanes);
    });
    // Weights come from the third cache, or from memory: asked for this long before they are needed.
    for (int line = 0; line < 4 * kColumns; line += 64) __builtin_prefetch(panel + 2048 + line);
    panel += 4 * kColumns;
    unrolled(UpTo<ROWS>(), [&](auto r) __attribute__((always_inline)) {
      const Integers group = setGroup(rows + r * stride + 4 * g);
      unrolled(UpTo<kVectors>(), [&](auto v) __attribute__((always_inline)) {
        sum[r][v] = BITS == 16 ? add16(sum[r][v], group, weights[v]) : add8(sum[r][v], group, weights[v]);
      });
    });
  }
  unrolled(UpTo<ROWS>(), [&](auto r) __attribute__((always_inline)) {
    const Floats rowScale = setF(block.rowScale[r * block.scaleStride]);
    unrolled(UpTo<kVectors>(), [&](auto v) __attribute__((always_inline)) {
      float* to = values + r * kColumns + v * kLanes;
      const Floats scale = mulF(rowScale, loadF(block.columnScale + v * kLanes));
      storeF(to, fmaF(toFloats(sum[r][v]), scale, loadF(to)));
    });
  });
}

using Tile = void (*)(const Block&, float*);

template <int BITS, int ROWS>
struct Tiles {
  static Tile of(int rows) { return rows == ROWS ? tile<BITS, ROWS> : Tiles<BITS, ROWS - 1>::of(rows); }
};
template <int BITS>
struct Tiles<BITS, 0> {
  static Tile of(int) { return nullptr; }
};

enum class Then { kStore, kGelu, kAdd };

// One panel's outputs for all rows: out = x W' + b; its GELU; or out += x W' + b.
template <int BITS, Then THEN>
void product(const Dense& dense, int panel, const int8_t* integers, const float* scale, int tokens, float* out) {
  const size_t stride = size_t(dense.in) * (BITS / 8);
  const int8_t* weights = dense.weights + size_t(panel) * kColumns * stride;
  const int first = panel * kColumns;
  const int groups = int(stride / 4);
  const int blocks = blocksOf(dense.in, BITS);
  const int blockGroups = blockOf(dense.in, BITS) * BITS / 32;
  alignas(64) float values[kRows * kColumns];
  const int tiles = (tokens + kRows - 1) / kRows;
  for (int t = 0, row = 0; t < tiles; t++) {
    // As many in each: a tile of few rows is slow.
    const int rows = (tokens - row) / (tiles - t);
    const Tile tile = Tiles<BITS, kRows>::of(rows);
    for (int r = 0; r < rows; r++)
      for (int v = 0; v < kVectors; v++)
        storeF(values + r * kColumns + v * kLanes, loadF(dense.bias + first + v * kLanes));
    for (int block = 0; block < blocks; block++) {
      const int group = block * blockGroups;
      tile({integers + row * stride + 4 * group, stride, scale + size_t(row) * blocks + block, blocks,
            weights + size_t(4) * group * kColumns, dense.scale + size_t(block) * dense.out + first,
            dense.start + first, groups - group < blockGroups ? groups - group : blockGroups},
           values);
    }
    for (int r = 0; r < rows; r++)
      for (int v = 0; v < kVectors; v++) {
        float* to = out + size_t(row + r) * dense.out + first + v * kLanes;
        Floats y = loadF(values + r * kColumns + v * kLanes);
        if (THEN == Then::kGelu) y = gelu(y);
        if (THEN == Then::kAdd) y = addF(y, loadF(to));
        storeF(to, y);
      }
    row += rows;
  }
}

// One head's attention in one text (Vaswani et al. 2017): out = softmax(q k' / sqrt(size)) v.
//
// @param qkv the text's queries, keys and values [length, 3 hidden], at the head's first query
// @param out [length, hidden], at the head's first output
inline void attend(const float* qkv, int length, int size, int hidden, AttentionScratch& scratch, float* out) {
  const int stride = 3 * hidden;
  const int places = (length + kPlaces - 1) / kPlaces * kPlaces;
  float* keys = scratch.keys;
  const float scale = 1 / __builtin_sqrtf(float(size));
  for (int j = 0; j < places; j++) {
    const float* key = qkv + hidden + size_t(j < length ? j : 0) * stride;
    for (int k = 0; k < size; k++) keys[k * places + j] = key[k] * scale;
  }
  for (int i = 0; i < length; i += kAttentionRows) {
    const int rows = length - i < kAttentionRows ? length - i : kAttentionRows;
    // The last one again instead of none: one loop for all.
    const float* query[kAttentionRows];
    for (int r = 0; r < kAttentionRows; r++) query[r] = qkv + size_t(i + (r < rows ? r : rows - 1)) * stride;
    for (int j = 0; j < places; j += kLanes) {
      Floats sum[kAttentionRows];
      for (int r = 0; r < kAttentionRows; r++) sum[r] = setF(0);
      for (int k = 0; k < size; k++) {
        const Floats key = loadF(keys + k * places + j);
        for (int r = 0; r < kAttentionRows; r++) sum[r] = fmaF(setF(query[r][k]), key, sum[r]);
      }
      for (int r = 0; r < kAttentionRows; r++) storeF(scratch.scores + r * places + j, sum[r]);
    }
    float inverse[kAttentionRows];
    for (int r = 0; r < kAttentionRows; r++) {
      float* scores = scratch.scores + r * places;
      // A place without a token: e^-87 of the largest, which is nothing.
      for (int j = length; j < places; j++) scores[j] = -1e30f;
      Floats largest = loadF(scores);
      for (int j = kLanes; j < places; j += kLanes) largest = maxF(largest, loadF(scores + j));
      const Floats most = setF(largestOf(largest));
      Floats sum = setF(0);
      for (int j = 0; j < places; j += kLanes) {
        const Floats share = expF(subF(loadF(scores + j), most));
        storeF(scores + j, share);
        sum = addF(sum, share);
      }
      inverse[r] = 1 / sumOf(sum);
    }
    for (int k = 0; k < size; k += kLanes) {
      Floats sum[kAttentionRows];
      for (int r = 0; r < kAttentionRows; r++) sum[r] = setF(0);
      const float* value = qkv + 2 * hidden + k;
      for (int j = 0; j < length; j++, value += stride) {
        const Floats v = loadF(value);
        for (int r = 0; r < kAttentionRows; r++) sum[r] = fmaF(setF(scratch.scores[r * places + j]), v, sum[r]);
      }
      for (int r = 0; r < rows; r++) storeF(out + size_t(i + r) * hidden + k, mulF(sum[r], setF(inverse[r])));
    }
  }
}

// A token's first state: what its word and its place add up to, normalized.
inline void embed(const Model& model, int id, int position, float* row) {
  const int hidden = model.shape.hidden;
  const float* place = model.positionRows + size_t(position) * hidden;
  if (model.wordRows) {
    const float* word = model.wordRows + size_t(id) * hidden;
    for (int i = 0; i < hidden; i += kLanes) storeF(row + i, addF(loadF(word + i), loadF(place + i)));
  } else {
    const int8_t* word = model.wordIntegers + size_t(id) * hidden;
    const Floats scale = setF(model.wordScale[id]);
    for (int i = 0; i < hidden; i += kLanes)
      // As floats would be: the word's number is rounded before the place's is added.
      storeF(row + i, addF(mulF(widen8(word + i), scale), loadF(place + i)));
  }
  normalize(row, hidden, model.embedded, model.shape.epsilon);
}

// The mean of a text's states, or its first one.
inline void pool(const Model& model, const float* states, int length, float* pooled) {
  const int hidden = model.shape.hidden;
  const int rows = model.shape.byFirst ? 1 : length;
  const Floats share = setF(1.0f / rows);
  for (int i = 0; i < hidden; i += kLanes) {
    Floats sum = setF(0);
    for (int row = 0; row < rows; row++) sum = addF(sum, loadF(states + size_t(row) * hidden + i));
    storeF(pooled + i, mulF(sum, share));
  }
}

template <int BITS, class Threads>
void forwardIn(const Model& model, const Batch& batch, Scratch& s, AttentionScratch& own, Threads threads) {
  const Shape& shape = model.shape;
  const int hidden = shape.hidden;
  const int size = hidden / shape.heads;
  const int first = batch.starts[0];
  const int tokens = batch.tokens();
  const auto lengthOf = [&](int text) { return batch.starts[text + 1] - batch.starts[text]; };
  const auto rowOf = [&](int text) { return size_t(batch.starts[text] - first); };
  const auto panels = [](const Dense& dense) { return dense.out / kColumns; };
  const auto integersOf = [&](int row, const float* states, int n) {
    toIntegers<BITS>(states + size_t(row) * n, n, s.integers + size_t(row) * n * (BITS / 8),
                     s.scale + size_t(row) * blocksOf(n, BITS));
  };
  // Tasks of a few rows each.
  constexpr int kFew = 4;
  const auto eachRow = [&](auto&& task) {
    threads.phase((tokens + kFew - 1) / kFew, [&](int piece) {
      for (int row = piece * kFew; row < tokens && row < (piece + 1) * kFew; row++) task(row);
    });
  };
  const auto normalized = [&](const Norm& norm) {
    eachRow([&](int row) {
      normalize(s.hidden + size_t(row) * hidden, hidden, norm, shape.epsilon);
      integersOf(row, s.hidden, hidden);
    });
  };

  threads.phase(batch.texts, [&](int text) {
    for (int place = 0; place < lengthOf(text); place++) {
      const int row = int(rowOf(text)) + place;
      embed(model, batch.ids[first + row], place, s.hidden + size_t(row) * hidden);
      integersOf(row, s.hidden, hidden);
    }
  });
  for (const Layer& layer : model.layers) {
    threads.phase(panels(layer.qkv), [&](int panel) {
      product<BITS, Then::kStore>(layer.qkv, panel, s.integers, s.scale, tokens, s.wide);
    });
    threads.phase(batch.texts * shape.heads, [&](int task) {
      const int text = task / shape.heads;
      const int head = task % shape.heads;
      attend(s.wide + rowOf(text) * 3 * hidden + head * size, lengthOf(text), size, hidden, own,
             s.mixed + rowOf(text) * hidden + head * size);
    });
    eachRow([&](int row) { integersOf(row, s.mixed, hidden); });
    threads.phase(panels(layer.projection), [&](int panel) {
      product<BITS, Then::kAdd>(layer.projection, panel, s.integers, s.scale, tokens, s.hidden);
    });
    normalized(layer.afterAttention);
    threads.phase(panels(layer.up), [&](int panel) {
      product<BITS, Then::kGelu>(layer.up, panel, s.integers, s.scale, tokens, s.wide);
    });
    eachRow([&](int row) { integersOf(row, s.wide, shape.inner); });
    threads.phase(panels(layer.down), [&](int panel) {
      product<BITS, Then::kAdd>(layer.down, panel, s.integers, s.scale, tokens, s.hidden);
    });
    normalized(layer.afterInner);
  }
  threads.phase(batch.texts, [&](int text) {
    pool(model, s.hidden + rowOf(text) * hidden, lengthOf(text), batch.pooled + size_t(text) * hidden);
  });
}

template <class Threads>
void forward(const Model& model, const Batch& batch, Scratch& scratch, AttentionScratch& own, Threads threads) {
  if (model.shape.bits == 16)
    forwardIn<16>(model, batch, scratch, own, threads);
  else
    forwardIn<8>(model, batch, scratch, own, threads);
}

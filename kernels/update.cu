// The update of all parameters in a few launches, without the host in between: Adam, the entries that stay nonzero
// (top magnitude with a floor per unit), decay, and the sparse forms of W and its transpose.
//
// Parameters lie one after the other in flat arrays, a Segment each; a block works on kPiece entries of one of them.
//
// Which entries stay: those with the `wanted` largest keys. The key of an entry is 64 bits, its magnitude above the
// complement of its place: no two are equal, and of equal magnitudes the lower place has the larger one. Entries that
// the floor forces in have the highest bit set. The threshold moves little from step to step: entries within a few per
// cent of the last one are collected, and the exact rank is found among those; where it is not among them, or they are
// too many, a block goes over the whole parameter instead. Results do not depend on the order of blocks.
//
// Floor: 40 bytes a parameter through memory: Adam reads four and writes three numbers, the threshold reads the weight
// once more, and so does the projection, which writes it; 4 more where there is a floor per unit.
//
// Where only nonzeros have gradients, that of everything else is zero, and so are its moments: Adam leaves it at zero.
#include "common.cuh"

constexpr unsigned kThreads = 256, kPiece = 4096, kSelect = 1024;
constexpr unsigned kNoUnit = 0, kRows = 1;  // 2: columns
typedef unsigned long long Key;
constexpr Key kForced = Key(1) << 63;

// Of a parameter [rows, cols]; places are entries of the flat arrays.
struct Segment {
    unsigned first, rows, cols;
    // Number of its first block.
    unsigned first_block;
    // Entries that stay; all of them where there are no more.
    unsigned wanted;
    // Which lines are units, how many entries each keeps (1 to 8), and where their keys begin.
    unsigned unit, per_unit, first_unit;
    // Where its candidates begin, and for how many there is room.
    unsigned first_candidate, room;
    // Whether kept weights decay, and whether it has a sparse form.
    unsigned decays, sparse;
    // Where its row_ptr (rows + 1), its col_ptr (cols + 1), its nonzeros and its bits begin.
    unsigned first_row, first_col, first_nonzero, first_word;
};

__device__ __forceinline__ Key key_of(float w, unsigned place) {
    return Key(__float_as_uint(w) & 0x7fffffffu) << 32 | ~place;
}

// The key with the floor: `keys` holds the least key that each unit keeps.
__device__ __forceinline__ Key key_with_floor(const Segment& s, const Key* keys, float w, unsigned place) {
    const Key key = key_of(w, place);
    if (s.unit == kNoUnit) return key;
    const unsigned unit = s.unit == kRows ? place / s.cols : place % s.cols;
    return key >= keys[s.first_unit + unit] ? key | kForced : key;
}

// partial[block] = sum of the squares of the gradient in a piece.
extern "C" __global__ void __launch_bounds__(kThreads)
    square_sums(const Segment* __restrict__ segments, const unsigned* __restrict__ block_segment,
                const float* __restrict__ gradient, float* __restrict__ partial) {
    SHARED(float, parts, kThreads / kWarpSize);
    const Segment s = segments[block_segment[blockIdx.x]];
    const unsigned n = s.rows * s.cols, from = (blockIdx.x - s.first_block) * kPiece;
    float sum = 0.0f;
    for (unsigned i = from + threadIdx.x; i < min(from + kPiece, n); i += kThreads) {
        const float g = gradient[size_t(s.first) + i];
        sum = __fmaf_rn(g, g, sum);
    }
    sum = block_sum(sum, parts);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// scalar[0] = root mean square of the gradient, scalar[1] = 1 / (it + eps). One block.
extern "C" __global__ void __launch_bounds__(kThreads)
    gradient_scale(const float* __restrict__ partial, float* __restrict__ scalar, unsigned blocks, float entries,
                   float eps) {
    SHARED(double, parts, kThreads);
    double sum = 0.0;
    for (unsigned i = threadIdx.x; i < blocks; i += kThreads) sum += partial[i];
    parts[threadIdx.x] = sum;
    for (unsigned width = kThreads / 2; width > 0; width /= 2) {
        __syncthreads();  // the sums of the round before are there
        if (threadIdx.x < width) parts[threadIdx.x] += parts[threadIdx.x + width];
    }
    if (threadIdx.x == 0) {
        const float rms = sqrtf(float(parts[0] / double(entries)));
        scalar[0] = rms;
        scalar[1] = 1.0f / (rms + eps);
    }
}

// With g = gradient * scalar[1]:  m <- m + (1 - beta1) (g - m),  v <- beta2 v + (1 - beta2) g^2,
// w <- w - rate m / (sqrt(v) / root + eps),  rate = lr / (1 - beta1^t), root = sqrt(1 - beta2^t): the bits of the CPU
// engine. A bit of `was` says of every entry whether it was nonzero before; `first_word` of a segment is where they begin.
extern "C" __global__ void __launch_bounds__(kThreads)
    adam(const Segment* __restrict__ segments, const unsigned* __restrict__ block_segment,
         const float* __restrict__ scalar, const float* __restrict__ gradient, float* __restrict__ w,
         float* __restrict__ m, float* __restrict__ v, unsigned* __restrict__ was, float beta1, float beta2,
         float rate, float root, float eps) {
    const Segment s = segments[block_segment[blockIdx.x]];
    const unsigned n = s.rows * s.cols, from = (blockIdx.x - s.first_block) * kPiece;
    const float scale = scalar[1];
    // All lanes of a warp go round as often.
    for (unsigned start = from; start < min(from + kPiece, n); start += kThreads) {
        const unsigned i = start + threadIdx.x;
        const size_t at = size_t(s.first) + i;
        const float before = i < n ? w[at] : 0.0f;
        const unsigned nonzero = __ballot_sync(kAllLanes, before != 0.0f);
        if (lane_of_thread() == 0 && i < n) was[s.first_word + i / kWarpSize] = nonzero;
        if (i >= n) continue;
        const float g = gradient[at] * scale;
        const float first = m[at] + (g - m[at]) * (1.0f - beta1);
        const float second = v[at] * beta2 + (1.0f - beta2) * g * g;
        m[at] = first;
        v[at] = second;
        w[at] = before - rate * first / (sqrtf(second) / root + eps);
    }
}

// Keeps the eight largest keys, the largest first.
__device__ __forceinline__ void insert_key(Key* keys, Key key) {
#pragma unroll
    for (unsigned i = 0; i < 8; ++i) {
        const Key old = keys[i];
        keys[i] = key > old ? key : old;
        key = key > old ? old : key;
    }
}

// keys[unit] = the key of the per_unit-th largest entry of the unit. Units that are rows: a warp each; columns: a thread
// each. Grid: units of the largest parameter in blocks of kThreads (columns) or kThreads / 32 (rows), segments.
extern "C" __global__ void __launch_bounds__(kThreads)
    unit_keys(const Segment* __restrict__ segments, const float* __restrict__ w, Key* __restrict__ keys) {
    const Segment s = segments[blockIdx.y];
    if (s.unit == kNoUnit) return;
    Key largest[8];
#pragma unroll
    for (unsigned i = 0; i < 8; ++i) largest[i] = 0;
    if (s.unit != kRows) {
        const unsigned col = blockIdx.x * kThreads + threadIdx.x;
        if (col >= s.cols) return;
        for (unsigned row = 0; row < s.rows; ++row) {
            const unsigned place = row * s.cols + col;
            insert_key(largest, key_of(w[size_t(s.first) + place], place));
        }
#pragma unroll
        for (unsigned i = 0; i < 8; ++i) {
            if (i + 1 == s.per_unit) keys[s.first_unit + col] = largest[i];
        }
        return;
    }
    const unsigned row = blockIdx.x * (kThreads / kWarpSize) + warp_of_thread();
    if (row >= s.rows) return;
    for (unsigned col = lane_of_thread(); col < s.cols; col += kWarpSize) {
        const unsigned place = row * s.cols + col;
        insert_key(largest, key_of(w[size_t(s.first) + place], place));
    }
    // The largest of all lanes, per_unit times; the lane that had it goes on to its next.
    Key key = 0;
    for (unsigned round = 0; round < s.per_unit; ++round) {
        key = largest[0];
        for (unsigned bits = kWarpSize / 2; bits > 0; bits /= 2) {
            const Key other = __shfl_xor_sync(kAllLanes, key, bits);
            key = other > key ? other : key;
        }
        if (largest[0] == key) {
#pragma unroll
            for (unsigned i = 0; i < 7; ++i) largest[i] = largest[i + 1];
            largest[7] = 0;
        }
    }
    if (lane_of_thread() == 0) keys[s.first_unit + row] = key;
}

// What is selected from: the numbers in `x`, with 0 in place of those where `taken`, if it is given, is not zero.
__device__ __forceinline__ float offered(const float* x, const float* taken, size_t at) {
    return taken && taken[at] != 0.0f ? 0.0f : x[at];
}

// counts[2 segment] += keys from bracket[2 segment + 1] on; keys from bracket[2 segment] to there are collected, their
// number in counts[2 segment + 1]. Counts are zero before. In which order candidates lie is anybody's guess.
extern "C" __global__ void __launch_bounds__(kThreads)
    count_candidates(const Segment* __restrict__ segments, const unsigned* __restrict__ block_segment,
                     const float* __restrict__ x, const float* __restrict__ taken, const Key* __restrict__ unit_keys,
                     const Key* __restrict__ bracket, unsigned* __restrict__ counts, Key* __restrict__ candidates) {
    SHARED(unsigned, above_of_block, 1);
    const unsigned segment = block_segment[blockIdx.x];
    const Segment s = segments[segment];
    const unsigned n = s.rows * s.cols, from = (blockIdx.x - s.first_block) * kPiece;
    if (s.wanted >= n) return;
    if (threadIdx.x == 0) above_of_block[0] = 0;
    __syncthreads();  // the count is zero before anybody adds
    const Key low = bracket[2 * segment], high = bracket[2 * segment + 1];
    unsigned above = 0;
    for (unsigned i = from + threadIdx.x; i < min(from + kPiece, n); i += kThreads) {
        const Key key = key_with_floor(s, unit_keys, offered(x, taken, size_t(s.first) + i), i);
        if (key >= high) {
            ++above;
        } else if (key >= low) {
            const unsigned at = atomicAdd(counts + 2 * segment + 1, 1u);
            if (at < s.room) candidates[size_t(s.first_candidate) + at] = key;
        }
    }
    if (above) atomicAdd(above_of_block, above);
    __syncthreads();  // all have added
    if (threadIdx.x == 0 && above_of_block[0]) atomicAdd(counts + 2 * segment, above_of_block[0]);
}

// The rank-th largest (from 1) of the `n` different keys that `key(i)` gives, by a block of kSelect threads: eight bits
// at a time from the top.
template <class KeyOf>
__device__ __forceinline__ Key nth_largest(KeyOf key, unsigned n, unsigned rank, unsigned* counts, unsigned* found) {
    Key prefix = 0;
    for (int shift = 56; shift >= 0; shift -= 8) {
        __syncthreads();  // what was found in the round before has been read
        if (threadIdx.x < 256) counts[threadIdx.x] = 0;
        __syncthreads();  // the counts are zero
        for (unsigned i = threadIdx.x; i < n; i += kSelect) {
            const Key k = key(i);
            if (shift == 56 || k >> (shift + 8) == prefix >> (shift + 8)) atomicAdd(counts + (k >> shift & 255), 1u);
        }
        __syncthreads();  // all have been counted
        if (threadIdx.x == 0) {
            unsigned digit = 255, left = rank;
            while (counts[digit] < left) left -= counts[digit--];
            found[0] = digit;
            found[1] = left;
        }
        __syncthreads();  // the digit is there
        prefix |= Key(found[0]) << shift;
        rank = found[1];
    }
    return prefix;
}

// threshold[segment] = the key of the wanted-th largest entry; the bracket of the next step lies around its magnitude,
// and counts are zero again. One block a segment.
extern "C" __global__ void __launch_bounds__(kSelect)
    select_threshold(const Segment* __restrict__ segments, const float* __restrict__ x, const float* __restrict__ taken,
                     const Key* __restrict__ unit_keys, Key* __restrict__ bracket, unsigned* __restrict__ counts,
                     const Key* __restrict__ candidates, Key* __restrict__ threshold) {
    SHARED(unsigned, digits, 256);
    SHARED(unsigned, found, 2);
    const unsigned segment = blockIdx.x;
    const Segment s = segments[segment];
    const unsigned n = s.rows * s.cols;
    if (s.wanted >= n || s.wanted == 0) {
        if (threadIdx.x == 0) threshold[segment] = s.wanted == 0 ? ~Key(0) : 0;
        return;
    }
    const unsigned above = counts[2 * segment], collected = counts[2 * segment + 1];
    Key key;
    if (above < s.wanted && s.wanted - above <= collected && collected <= s.room) {
        const Key* mine = candidates + s.first_candidate;
        key = nth_largest([=](unsigned i) { return mine[i]; }, collected, s.wanted - above, digits, found);
    } else {
        const size_t first = s.first;
        key = nth_largest([=](unsigned i) { return key_with_floor(s, unit_keys, offered(x, taken, first + i), i); }, n,
                          s.wanted, digits, found);
    }
    __syncthreads();  // the counts have been read
    if (threadIdx.x == 0) {
        threshold[segment] = key;
        const float magnitude = __uint_as_float(unsigned(key >> 32) & 0x7fffffffu);
        bracket[2 * segment] = Key(__float_as_uint(magnitude * 0.97f)) << 32;
        bracket[2 * segment + 1] = Key(__float_as_uint(magnitude * 1.03f)) << 32;
        counts[2 * segment] = 0;
        counts[2 * segment + 1] = 0;
    }
}

// Entries below the threshold become zero; those that stay lose the fraction `decay` where the segment decays. With
// `forget`, moments of entries that are zero become zero, too, where a selection is made. Counts the nonzeros of rows
// and columns of segments with a sparse form: row_ptr[first_row + row] and col_ptr[first_col + col], which are zero
// before; and of the segment those that are there and those that were not (`was`): report[2 segment] and the next.
extern "C" __global__ void __launch_bounds__(kThreads)
    project(const Segment* __restrict__ segments, const unsigned* __restrict__ block_segment,
            const Key* __restrict__ unit_keys, const Key* __restrict__ threshold, const unsigned* __restrict__ was,
            float* __restrict__ w, float* __restrict__ m, float* __restrict__ v, unsigned* __restrict__ row_ptr,
            unsigned* __restrict__ col_ptr, unsigned* __restrict__ report, float decay, unsigned forget) {
    SHARED(unsigned, of_block, 2);
    const unsigned segment = block_segment[blockIdx.x];
    const Segment s = segments[segment];
    const unsigned n = s.rows * s.cols, from = (blockIdx.x - s.first_block) * kPiece;
    const Key least = threshold[segment];
    const bool selects = s.wanted < n;
    if (threadIdx.x < 2) of_block[threadIdx.x] = 0;
    __syncthreads();  // the counts are zero before anybody adds
    unsigned nonzero = 0, entered = 0;
    for (unsigned i = from + threadIdx.x; i < min(from + kPiece, n); i += kThreads) {
        const size_t at = size_t(s.first) + i;
        float x = w[at];
        if (selects && key_with_floor(s, unit_keys, x, i) < least) x = 0.0f;
        if (s.decays) x -= decay * x;
        w[at] = x;
        if (x == 0.0f) {
            if (forget && selects) m[at] = v[at] = 0.0f;
            continue;
        }
        ++nonzero;
        entered += selects && !(was[s.first_word + i / kWarpSize] >> i % kWarpSize & 1);
        if (s.sparse) {
            atomicAdd(row_ptr + s.first_row + i / s.cols, 1u);
            atomicAdd(col_ptr + s.first_col + i % s.cols, 1u);
        }
    }
    if (nonzero) atomicAdd(of_block, nonzero);
    if (entered) atomicAdd(of_block + 1, entered);
    __syncthreads();  // all have added
    if (threadIdx.x < 2 && of_block[threadIdx.x]) atomicAdd(report + 2 * segment + threadIdx.x, of_block[threadIdx.x]);
}

// Gradients of zero weights become zero where a selection is made, but for those at or above the threshold among what
// zero weights offer: the weights that grow. Without a threshold none grows.
extern "C" __global__ void __launch_bounds__(kThreads)
    mask_gradient(const Segment* __restrict__ segments, const unsigned* __restrict__ block_segment,
                  const Key* __restrict__ threshold, const float* __restrict__ w, float* __restrict__ gradient) {
    const unsigned segment = block_segment[blockIdx.x];
    const Segment s = segments[segment];
    const unsigned n = s.rows * s.cols, from = (blockIdx.x - s.first_block) * kPiece;
    if (s.wanted >= n) return;
    for (unsigned i = from + threadIdx.x; i < min(from + kPiece, n); i += kThreads) {
        const size_t at = size_t(s.first) + i;
        if (w[at] == 0.0f && !(threshold && key_of(gradient[at], i) >= threshold[segment])) gradient[at] = 0.0f;
    }
}

// The sum over the threads before this one. `sums` [kSelect] holds the sums up to and with each thread afterwards.
__device__ __forceinline__ unsigned block_sum_before(unsigned mine, unsigned* sums) {
    unsigned sum = mine;
    sums[threadIdx.x] = sum;
    for (unsigned by = 1; by < kSelect; by *= 2) {
        __syncthreads();  // the sums of the round before are there
        const unsigned left = threadIdx.x >= by ? sums[threadIdx.x - by] : 0;
        __syncthreads();  // they have been read
        sum += left;
        sums[threadIdx.x] = sum;
    }
    __syncthreads();  // the last one is there
    return sum - mine;
}

// Turns counts into where each line begins, in place: ptr[i] = sum of the counts before i, for rows (y 0) and columns
// (y 1). Grid: segments, 2.
extern "C" __global__ void __launch_bounds__(kSelect)
    sum_counts(const Segment* __restrict__ segments, unsigned* __restrict__ row_ptr, unsigned* __restrict__ col_ptr) {
    SHARED(unsigned, sums, kSelect);
    const Segment s = segments[blockIdx.x];
    if (!s.sparse) return;
    unsigned* ptr = blockIdx.y == 0 ? row_ptr + s.first_row : col_ptr + s.first_col;
    const unsigned n = blockIdx.y == 0 ? s.rows : s.cols;
    unsigned before = 0;
    for (unsigned from = 0; from < n; from += kSelect) {
        const unsigned i = from + threadIdx.x, mine = i < n ? ptr[i] : 0;
        const unsigned sum = block_sum_before(mine, sums);
        if (i < n) ptr[i] = before + sum;
        before += sums[kSelect - 1];
        __syncthreads();  // it has been read
    }
    if (threadIdx.x == 0) ptr[n] = before;
}

// The sparse form of W: pairs (column, bits of the value) of every row, a warp a row, in the order of columns.
// Grid: rows of the largest parameter in blocks of 8, segments.
extern "C" __global__ void __launch_bounds__(kThreads)
    fill_rows(const Segment* __restrict__ segments, const float* __restrict__ w, const unsigned* __restrict__ row_ptr,
              uint2* __restrict__ pairs) {
    const Segment s = segments[blockIdx.y];
    const unsigned row = blockIdx.x * (kThreads / kWarpSize) + warp_of_thread();
    if (!s.sparse || row >= s.rows) return;
    size_t at = size_t(s.first_nonzero) + row_ptr[s.first_row + row];
    for (unsigned from = 0; from < s.cols; from += kWarpSize) {
        const unsigned col = from + lane_of_thread();
        const float x = col < s.cols ? w[size_t(s.first) + size_t(row) * s.cols + col] : 0.0f;
        const unsigned kept = __ballot_sync(kAllLanes, x != 0.0f);
        const unsigned rank = __popc(kept & ((1u << lane_of_thread()) - 1));
        if (x != 0.0f) pairs[at + rank] = make_uint2(col, __float_as_uint(x));
        at += __popc(kept);
    }
}

// That of the transpose: pairs (row, bits of the value) of every column, a thread a column, in the order of rows.
// Grid: columns of the largest parameter in blocks of kThreads, segments.
extern "C" __global__ void __launch_bounds__(kThreads)
    fill_columns(const Segment* __restrict__ segments, const float* __restrict__ w,
                 const unsigned* __restrict__ col_ptr, uint2* __restrict__ pairs) {
    const Segment s = segments[blockIdx.y];
    const unsigned col = blockIdx.x * kThreads + threadIdx.x;
    if (!s.sparse || col >= s.cols) return;
    size_t at = size_t(s.first_nonzero) + col_ptr[s.first_col + col];
    for (unsigned row = 0; row < s.rows; ++row) {
        const float x = w[size_t(s.first) + size_t(row) * s.cols + col];
        if (x != 0.0f) pairs[at++] = make_uint2(row, __float_as_uint(x));
    }
}

// The rows (y 0) and columns (y 1) by the number of their nonzeros, the longest first; which of equal ones is first is
// anybody's guess. Those with kSelect and more are as long as each other. Grid: segments, 2.
extern "C" __global__ void __launch_bounds__(kSelect)
    order_lines(const Segment* __restrict__ segments, const unsigned* __restrict__ row_ptr,
                const unsigned* __restrict__ col_ptr, unsigned* __restrict__ row_order,
                unsigned* __restrict__ col_order) {
    SHARED(unsigned, place, kSelect);
    SHARED(unsigned, sums, kSelect);
    const Segment s = segments[blockIdx.x];
    if (!s.sparse) return;
    const unsigned first = blockIdx.y == 0 ? s.first_row : s.first_col, n = blockIdx.y == 0 ? s.rows : s.cols;
    const unsigned* ptr = (blockIdx.y == 0 ? row_ptr : col_ptr) + first;
    unsigned* order = (blockIdx.y == 0 ? row_order : col_order) + first;
    // The longest have bin 0.
    auto bin = [=](unsigned i) { return kSelect - 1 - min(ptr[i + 1] - ptr[i], kSelect - 1); };
    place[threadIdx.x] = 0;
    __syncthreads();  // the bins are empty
    for (unsigned i = threadIdx.x; i < n; i += kSelect) atomicAdd(place + bin(i), 1u);
    __syncthreads();  // all are counted
    place[threadIdx.x] = block_sum_before(place[threadIdx.x], sums);
    __syncthreads();  // where each bin begins
    for (unsigned i = threadIdx.x; i < n; i += kSelect) order[atomicAdd(place + bin(i), 1u)] = i;
}

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
    // Where its row_ptr (rows + 1), its col_ptr (cols + 1) and its nonzeros begin.
    unsigned first_row, first_col, first_nonzero;
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

// With g = gradient * scalar[1]:  m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2,
// w <- w - rate m / (sqrt(v correction) + eps),  rate = lr / (1 - beta1^t), correction = 1 / (1 - beta2^t).
extern "C" __global__ void __launch_bounds__(kThreads)
    adam(const Segment* __restrict__ segments, const unsigned* __restrict__ block_segment,
         const float* __restrict__ scalar, const float* __restrict__ gradient, float* __restrict__ w,
         float* __restrict__ m, float* __restrict__ v, float beta1, float beta2, float rate, float correction,
         float eps) {
    const Segment s = segments[block_segment[blockIdx.x]];
    const unsigned n = s.rows * s.cols, from = (blockIdx.x - s.first_block) * kPiece;
    const float scale = scalar[1];
    for (unsigned i = from + threadIdx.x; i < min(from + kPiece, n); i += kThreads) {
        const size_t at = size_t(s.first) + i;
        const float g = gradient[at] * scale;
        const float first = beta1 * m[at] + (1.0f - beta1) * g;
        const float second = beta2 * v[at] + (1.0f - beta2) * g * g;
        m[at] = first;
        v[at] = second;
        w[at] -= rate * first / (sqrtf(second * correction) + eps);
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

// counts[2 segment] += keys from bracket[2 segment + 1] on; keys from bracket[2 segment] to there are collected, their
// number in counts[2 segment + 1]. Counts are zero before. In which order candidates lie is anybody's guess.
extern "C" __global__ void __launch_bounds__(kThreads)
    count_candidates(const Segment* __restrict__ segments, const unsigned* __restrict__ block_segment,
                     const float* __restrict__ w, const Key* __restrict__ unit_keys, const Key* __restrict__ bracket,
                     unsigned* __restrict__ counts, Key* __restrict__ candidates) {
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
        const Key key = key_with_floor(s, unit_keys, w[size_t(s.first) + i], i);
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
    select_threshold(const Segment* __restrict__ segments, const float* __restrict__ w,
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
        const float* mine = w + s.first;
        key = nth_largest([=](unsigned i) { return key_with_floor(s, unit_keys, mine[i], i); }, n, s.wanted, digits,
                          found);
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

// Entries below the threshold become zero; those that stay lose the fraction `decay` where the segment decays. Counts
// the nonzeros of rows and columns of segments with a sparse form: row_ptr[first_row + row] and col_ptr[first_col +
// col], which are zero before.
extern "C" __global__ void __launch_bounds__(kThreads)
    project(const Segment* __restrict__ segments, const unsigned* __restrict__ block_segment,
            const Key* __restrict__ unit_keys, const Key* __restrict__ threshold, float* __restrict__ w,
            unsigned* __restrict__ row_ptr, unsigned* __restrict__ col_ptr, float decay) {
    const unsigned segment = block_segment[blockIdx.x];
    const Segment s = segments[segment];
    const unsigned n = s.rows * s.cols, from = (blockIdx.x - s.first_block) * kPiece;
    const Key least = threshold[segment];
    for (unsigned i = from + threadIdx.x; i < min(from + kPiece, n); i += kThreads) {
        float* at = w + size_t(s.first) + i;
        float x = *at;
        if (s.wanted < n && key_with_floor(s, unit_keys, x, i) < least) x = 0.0f;
        if (s.decays) x -= decay * x;
        *at = x;
        if (s.sparse && x != 0.0f) {
            atomicAdd(row_ptr + s.first_row + i / s.cols, 1u);
            atomicAdd(col_ptr + s.first_col + i % s.cols, 1u);
        }
    }
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
        if (i < n) ptr[i] = before + sum - mine;
        before += sums[kSelect - 1];
        __syncthreads();  // it has been read
    }
    if (threadIdx.x == 0) ptr[n] = before;
}

// The sparse form of W: columns and values of every row, a warp a row, in the order of columns.
// Grid: rows of the largest parameter in blocks of 8, segments.
extern "C" __global__ void __launch_bounds__(kThreads)
    fill_rows(const Segment* __restrict__ segments, const float* __restrict__ w, const unsigned* __restrict__ row_ptr,
              unsigned* __restrict__ col_idx, float* __restrict__ values) {
    const Segment s = segments[blockIdx.y];
    const unsigned row = blockIdx.x * (kThreads / kWarpSize) + warp_of_thread();
    if (!s.sparse || row >= s.rows) return;
    size_t at = size_t(s.first_nonzero) + row_ptr[s.first_row + row];
    for (unsigned from = 0; from < s.cols; from += kWarpSize) {
        const unsigned col = from + lane_of_thread();
        const float x = col < s.cols ? w[size_t(s.first) + size_t(row) * s.cols + col] : 0.0f;
        const unsigned kept = __ballot_sync(kAllLanes, x != 0.0f);
        if (x != 0.0f) {
            const unsigned rank = __popc(kept & ((1u << lane_of_thread()) - 1));
            col_idx[at + rank] = col;
            values[at + rank] = x;
        }
        at += __popc(kept);
    }
}

// That of the transpose: rows and values of every column, a thread a column, in the order of rows.
// Grid: columns of the largest parameter in blocks of kThreads, segments.
extern "C" __global__ void __launch_bounds__(kThreads)
    fill_columns(const Segment* __restrict__ segments, const float* __restrict__ w,
                 const unsigned* __restrict__ col_ptr, unsigned* __restrict__ row_idx, float* __restrict__ values) {
    const Segment s = segments[blockIdx.y];
    const unsigned col = blockIdx.x * kThreads + threadIdx.x;
    if (!s.sparse || col >= s.cols) return;
    size_t at = size_t(s.first_nonzero) + col_ptr[s.first_col + col];
    for (unsigned row = 0; row < s.rows; ++row) {
        const float x = w[size_t(s.first) + size_t(row) * s.cols + col];
        if (x != 0.0f) {
            row_idx[at] = row;
            values[at] = x;
            ++at;
        }
    }
}

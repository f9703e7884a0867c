// Dense products, for densities where the sparse ones take more time and there is no library.
//
//   matmul         y[r, t] = bias[r] + sum_c w[r, c] x[c, t]      Y = W X
//   matmul_input   dx[c, t] = sum_r w[r, c] dy[r, t]              dX = Wᵀ dY
//   matmul_weight  partial[chunk, r, c] = sum over the tokens of the chunk of dy[r, t] x[c, t]     dW = dY Xᵀ
//
// W [rows, cols], X [cols, tokens], dY, Y [rows, tokens], rows of activations `stride` apart. A chain of fused
// multiply-adds an entry, in the order of the sum: the bits of the CPU engine (but for the chunks of matmul_weight).
//
// A block has a tile of 64 by 64 entries, a thread 4 by 4. Floor: the multiply-adds, 67 TFLOP/s in f32 on an H100.
#include "common.cuh"

constexpr unsigned kTile = 64, kDepth = 16, kThreads = 256;

// C = start + A B over k from first to last. Neighbouring threads read neighbouring rows of A (A_BY_ROW) or neighbouring
// k, and neighbouring columns of B (B_BY_COL) or neighbouring k: whatever lies side by side in memory.
template <bool A_BY_ROW, bool B_BY_COL, class A, class B, class Start, class Write>
__device__ __forceinline__ void product(unsigned first, unsigned last, A a, B b, Start start, Write write) {
    // A column more than needed, so that writes of neighbouring threads go to different banks.
    SHARED(float, as, kDepth*(kTile + 4));
    SHARED(float, bs, kDepth*(kTile + 4));
    const unsigned row = blockIdx.y * kTile, col = blockIdx.x * kTile;
    const unsigned my_row = threadIdx.x / 16 * 4, my_col = threadIdx.x % 16 * 4;
    float sum[4][4];
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
#pragma unroll
        for (unsigned j = 0; j < 4; ++j) sum[i][j] = start(row + my_row + i);
    }
    for (unsigned from = first; from < last; from += kDepth) {
        __syncthreads();  // the tiles before have been read
#pragma unroll
        for (unsigned i = threadIdx.x; i < kDepth * kTile; i += kThreads) {
            const unsigned ai = A_BY_ROW ? i % kTile : i / kDepth, ak = A_BY_ROW ? i / kTile : i % kDepth;
            as[ak * (kTile + 4) + ai] = from + ak < last ? a(row + ai, from + ak) : 0.0f;
            const unsigned bj = B_BY_COL ? i % kTile : i / kDepth, bk = B_BY_COL ? i / kTile : i % kDepth;
            bs[bk * (kTile + 4) + bj] = from + bk < last ? b(from + bk, col + bj) : 0.0f;
        }
        __syncthreads();  // these are whole
        const unsigned depth = min(kDepth, last - from);
        for (unsigned k = 0; k < depth; ++k) {
            const float4 av = *reinterpret_cast<const float4*>(as + k * (kTile + 4) + my_row);
            const float4 bv = *reinterpret_cast<const float4*>(bs + k * (kTile + 4) + my_col);
            const float ar[4] = {av.x, av.y, av.z, av.w}, br[4] = {bv.x, bv.y, bv.z, bv.w};
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) {
#pragma unroll
                for (unsigned j = 0; j < 4; ++j) sum[i][j] = __fmaf_rn(ar[i], br[j], sum[i][j]);
            }
        }
    }
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
#pragma unroll
        for (unsigned j = 0; j < 4; ++j) write(row + my_row + i, col + my_col + j, sum[i][j]);
    }
}

// Grid: tokens and rows in tiles.
extern "C" __global__ void __launch_bounds__(kThreads)
    matmul(const float* __restrict__ w, const float* __restrict__ bias, const float* __restrict__ x,
           float* __restrict__ y, unsigned rows, unsigned cols, unsigned stride) {
    product<false, true>(
        0, cols, [=](unsigned r, unsigned c) { return r < rows ? w[size_t(r) * cols + c] : 0.0f; },
        [=](unsigned c, unsigned t) { return t < stride ? x[size_t(c) * stride + t] : 0.0f; },
        [=](unsigned r) { return bias && r < rows ? bias[r] : 0.0f; },
        [=](unsigned r, unsigned t, float sum) {
            if (r < rows && t < stride) y[size_t(r) * stride + t] = sum;
        });
}

// Grid: tokens and columns of W in tiles.
extern "C" __global__ void __launch_bounds__(kThreads)
    matmul_input(const float* __restrict__ w, const float* __restrict__ dy, float* __restrict__ dx, unsigned rows,
                 unsigned cols, unsigned stride) {
    product<true, true>(
        0, rows, [=](unsigned c, unsigned r) { return c < cols ? w[size_t(r) * cols + c] : 0.0f; },
        [=](unsigned r, unsigned t) { return t < stride ? dy[size_t(r) * stride + t] : 0.0f; },
        [](unsigned) { return 0.0f; },
        [=](unsigned c, unsigned t, float sum) {
            if (c < cols && t < stride) dx[size_t(c) * stride + t] = sum;
        });
}

// Grid: columns and rows of W in tiles, chunks of tokens.
extern "C" __global__ void __launch_bounds__(kThreads)
    matmul_weight(const float* __restrict__ dy, const float* __restrict__ x, float* __restrict__ partial,
                  unsigned rows, unsigned cols, unsigned stride) {
    const unsigned chunk = (stride + gridDim.z - 1) / gridDim.z, first = min(blockIdx.z * chunk, stride);
    float* mine = partial + size_t(blockIdx.z) * rows * cols;
    product<false, false>(
        first, min(first + chunk, stride),
        [=](unsigned r, unsigned t) { return r < rows ? dy[size_t(r) * stride + t] : 0.0f; },
        [=](unsigned t, unsigned c) { return c < cols ? x[size_t(c) * stride + t] : 0.0f; },
        [](unsigned) { return 0.0f; },
        [=](unsigned r, unsigned c, float sum) {
            if (r < rows && c < cols) mine[size_t(r) * cols + c] = sum;
        });
}

// y[r, t] = bias[r]: what a library's product is added to. Grid: tokens in blocks, rows.
extern "C" __global__ void __launch_bounds__(kThreads)
    set_rows(const float* __restrict__ bias, float* __restrict__ y, unsigned stride) {
    const unsigned t = blockIdx.x * kThreads + threadIdx.x;
    if (t < stride) y[size_t(blockIdx.y) * stride + t] = bias[blockIdx.y];
}

// dw[i] += the partial sums of n numbers, chunk after chunk.
extern "C" __global__ void __launch_bounds__(kThreads)
    add_partial_sums(const float* __restrict__ partial, float* __restrict__ dw, unsigned n, unsigned chunks) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float sum = dw[i];
    for (unsigned chunk = 0; chunk < chunks; ++chunk) sum += partial[size_t(chunk) * n + i];
    dw[i] = sum;
}

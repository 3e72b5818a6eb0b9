// A streamed softmax on warps: mma.sync with a ring of copies, mfma and wmma on transposed products with the next step in registers.
// RUN: %mlc-opt %s --target=cuda:sm_80 --lower-graph-to-tile --mlc-dce --tile-pipeline --task-pipeline | filecheck %s --check-prefixes=MAPPED,MAPPED80
// RUN: %mlc-opt %s --target=rocm:gfx942 --lower-graph-to-tile --mlc-dce --tile-pipeline --task-pipeline | filecheck %s --check-prefixes=MAPPED,MAPPED942
// RUN: %mlc-opt %s --target=cuda:sm_80 --lower-graph-to-tile --mlc-dce --tile-pipeline --task-pipeline --lower-task-to-gpu | filecheck %s --check-prefix=COPIED
// RUN: %mlc-opt %s --target=rocm:gfx942 --lower-graph-to-tile --mlc-dce --tile-pipeline --task-pipeline --lower-task-to-gpu | filecheck %s --check-prefix=MFMA
// RUN: %mlc-opt %s --target=rocm:gfx1100 --lower-graph-to-tile --mlc-dce --tile-pipeline --task-pipeline --lower-task-to-gpu | filecheck %s --check-prefix=WMMA

// MAPPED: "task.stream"
// MAPPED80: {atom = "mma.m16n8k16.f16", {{.*}}stages = 2 : i64, step = 64 : i64, warps = 4 : i64, workspace = 0 : i64}
// MAPPED942: {atom = "mfma.f32_16x16x16_f16", {{.*}}stages = 2 : i64, step = 64 : i64, warps = 4 : i64, workspace = 0 : i64}

// The next step is on its way before the first product; the weights go from sums to a factor without memory.
// COPIED: scf.for
// COPIED: nvvm.cp.async.wait.group 0
// COPIED-NEXT: gpu.barrier
// COPIED: nvgpu.device_async_copy
// COPIED: nvgpu.ldmatrix {{.*}}transpose = false
// COPIED: nvgpu.mma.sync
// COPIED: gpu.shuffle xor
// COPIED: math.exp2 %{{.*}} fastmath<afn>
// COPIED-NOT: vector.store
// COPIED: arith.truncf {{.*}} : vector<8xf32> to vector<8xf16>
// COPIED: nvgpu.ldmatrix {{.*}}transpose = true
// COPIED: nvgpu.mma.sync

// A lane's four sums of k q^T are its four depth points of the next product.
// MFMA: scf.for
// MFMA: amdgpu.mfma 16x16x16
// MFMA: gpu.shuffle xor
// MFMA-NOT: vector.store
// MFMA: arith.truncf {{.*}} : vector<4xf32> to vector<4xf16>
// MFMA-NOT: gpu.shuffle
// MFMA: amdgpu.mfma 16x16x16
// MFMA: vector.store

// Two lanes have copies of a factor: each gives the other its sums.
// WMMA: scf.for
// WMMA: amdgpu.wmma 16x16x16
// WMMA: arith.truncf {{.*}} : vector<8xf32> to vector<8xf16>
// WMMA-COUNT-4: gpu.shuffle xor
// WMMA: amdgpu.wmma 16x16x16
func.func @causal(%q: tensor<1x8x1024x64xf16>, %k: tensor<1x8x1024x64xf16>, %v: tensor<1x8x1024x64xf16>) -> tensor<1x8x1024x64xf16> {
  %0 = "graph.attention"(%q, %k, %v) {scale = 0.125, right = 0}
    : (tensor<1x8x1024x64xf16>, tensor<1x8x1024x64xf16>, tensor<1x8x1024x64xf16>) -> tensor<1x8x1024x64xf16>
  return %0 : tensor<1x8x1024x64xf16>
}

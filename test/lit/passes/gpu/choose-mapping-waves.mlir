// choose-mapping and lower-task-to-gpu for waves: matrix instructions by type and architecture, factors by way of registers.
// RUN: %mlc-opt %s --split-input-file --target=rocm:gfx942 --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline,gpu-kernel-pipeline)' | filecheck %s --check-prefixes=MFMA,GFX942
// RUN: %mlc-opt %s --split-input-file --target=rocm:gfx90a --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline,gpu-kernel-pipeline)' | filecheck %s --check-prefixes=MFMA
// RUN: %mlc-opt %s --split-input-file --target=rocm:gfx1100 --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline,gpu-kernel-pipeline)' | filecheck %s --check-prefixes=GFX11
// RUN: %mlc-opt %s --split-input-file --target=rocm:gfx1201 --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline,gpu-kernel-pipeline)' | filecheck %s --check-prefixes=GFX12

// The left factor's rows are copied as they are, those of the right one are turned on the way; a lane reads two atoms' parts at once.
// MFMA: gpu.func @kernel_0
// MFMA-SAME: known_block_size = array<i32: {{256|512}}, 1, 1>
// MFMA: vector.load {{.*}}#gpu.address_space<global>>, vector<8xf16>
// MFMA: vector.store {{.*}}#gpu.address_space<workgroup>>, vector<8xf16>
// MFMA: vector.from_elements
// MFMA: scf.for
// MFMA: gpu.barrier
// MFMA: vector.load {{.*}}#gpu.address_space<workgroup>>, vector<8xf16>
// MFMA: amdgpu.mfma 16x16x16 {{.*}} : vector<4xf16>, vector<4xf16>, vector<4xf32>
// MFMA: loop_annotation = #
// GFX11: gpu.func @kernel_0
// GFX11-SAME: known_block_size = array<i32: {{128|256}}, 1, 1>
// GFX11: amdgpu.wmma 16x16x16 {{.*}} : vector<16xf16>, vector<16xf16>, vector<8xf32>
// GFX12: amdgpu.wmma 16x16x16 {{.*}} : vector<8xf16>, vector<8xf16>, vector<8xf32>
func.func @main(%x: tensor<1024x256xf16>, %w: tensor<256x512xf16>) -> tensor<1024x512xf16> {
  %0 = "graph.matmul"(%x, %w) : (tensor<1024x256xf16>, tensor<256x512xf16>) -> tensor<1024x512xf16>
  return %0 : tensor<1024x512xf16>
}

// -----

// MFMA: amdgpu.mfma 16x16x16 {{.*}} : vector<4xbf16>, vector<4xbf16>, vector<4xf32>
// GFX11: amdgpu.wmma 16x16x16 {{.*}} : vector<16xbf16>, vector<16xbf16>, vector<8xf32>
// GFX12: amdgpu.wmma 16x16x16 {{.*}} : vector<8xbf16>, vector<8xbf16>, vector<8xf32>
func.func @main(%x: tensor<1024x256xbf16>, %w: tensor<256x512xbf16>) -> tensor<1024x512xbf16> {
  %0 = "graph.matmul"(%x, %w) : (tensor<1024x256xbf16>, tensor<256x512xbf16>) -> tensor<1024x512xbf16>
  return %0 : tensor<1024x512xbf16>
}

// -----

// wmma has no f32 factors: FMA units take them.
// MFMA: amdgpu.mfma 16x16x4 {{.*}} : f32, f32, vector<4xf32>
// GFX11: gpu.module
// GFX11-NOT: amdgpu.
// GFX11: math.fma {{.*}} : vector<4xf32>
// GFX12: gpu.module
// GFX12-NOT: amdgpu.
// GFX12: math.fma {{.*}} : vector<4xf32>
func.func @main(%x: tensor<1024x256xf32>, %w: tensor<256x512xf32>) -> tensor<1024x512xf32> {
  %0 = "graph.matmul"(%x, %w) : (tensor<1024x256xf32>, tensor<256x512xf32>) -> tensor<1024x512xf32>
  return %0 : tensor<1024x512xf32>
}

// -----

// MFMA: amdgpu.mfma 16x16x{{16|32}} {{.*}} : vector<{{4|8}}xi8>, vector<{{4|8}}xi8>, vector<4xi32>
// GFX942: amdgpu.mfma 16x16x32
// GFX11: amdgpu.wmma 16x16x16 {{.*}} : vector<16xi8>, vector<16xi8>, vector<8xi32>
// GFX12: amdgpu.wmma 16x16x16 {{.*}} : vector<8xi8>, vector<8xi8>, vector<8xi32>
func.func @main(%x: tensor<1024x256xi8>, %w: tensor<256x512xi8>) -> tensor<1024x512xi32> {
  %0 = "graph.cast"(%x) {to = i32} : (tensor<1024x256xi8>) -> tensor<1024x256xi32>
  %1 = "graph.cast"(%w) {to = i32} : (tensor<256x512xi8>) -> tensor<256x512xi32>
  %2 = "graph.matmul"(%0, %1) : (tensor<1024x256xi32>, tensor<256x512xi32>) -> tensor<1024x512xi32>
  return %2 : tensor<1024x512xi32>
}

// -----

// float8 in the encoding that the architecture multiplies; in another, loops decode it.
// GFX942: amdgpu.mfma 16x16x32 {{.*}} : vector<8xf8E5M2FNUZ>, vector<8xf8E4M3FNUZ>, vector<4xf32>
// GFX11: gpu.module
// GFX11-NOT: amdgpu.wmma
// GFX12: gpu.module
// GFX12-NOT: amdgpu.wmma
// GFX11: func.func @main
// GFX12: func.func @main
func.func @main(%x: tensor<1024x256xf8E4M3FNUZ>, %w: tensor<256x512xf8E5M2FNUZ>) -> tensor<1024x512xf32> {
  %0 = "graph.matmul"(%x, %w) : (tensor<1024x256xf8E4M3FNUZ>, tensor<256x512xf8E5M2FNUZ>) -> tensor<1024x512xf32>
  return %0 : tensor<1024x512xf32>
}

// -----

// GFX12: amdgpu.wmma 16x16x16 {{.*}} : vector<8xf8E5M2>, vector<8xf8E4M3FN>, vector<8xf32>
func.func @main(%x: tensor<1024x256xf8E4M3FN>, %w: tensor<256x512xf8E5M2>) -> tensor<1024x512xf32> {
  %0 = "graph.matmul"(%x, %w) : (tensor<1024x256xf8E4M3FN>, tensor<256x512xf8E5M2>) -> tensor<1024x512xf32>
  return %0 : tensor<1024x512xf32>
}

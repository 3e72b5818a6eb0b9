// choose-mapping and lower-task-to-gpu: a turned copy goes through padded shared memory, loads and stores are 16 bytes along rows.
// RUN: %mlc-opt %s --target=cuda:sm_90a --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline)' | filecheck %s
// RUN: %mlc-opt %s --target=cuda:sm_90a --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline,gpu-kernel-pipeline)' | filecheck %s --check-prefix=GPU
// RUN: %mlc-opt %s --target=rocm:gfx942 --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline)' | filecheck %s --check-prefix=WAVE

// CHECK: [[BUFFER:%[0-9]+]] = "task.alloc"() {level = "shared", offset = 0 : i64, pitch = 65 : i64} : () -> memref<64x64xf32>
// CHECK: "task.foreach"
// CHECK: "task.store"(%{{.*}}, [[BUFFER]],
// CHECK: extents = [64, 64], map = #task.map<repeat(2, 1) * spatial(32, 1) * repeat(2, 1) * spatial(8, 1) * repeat(4, 1)>
// CHECK: "task.load"([[BUFFER]],
// CHECK: extents = [64, 64], map = #task.map<repeat(2, 1) * spatial(32, 1) * repeat(2, 1) * spatial(8, 1) * repeat(4, 1)>
// CHECK: threads = 256 : i64

// GPU: vector.load {{.*}}memref<16777216xf32, #gpu.address_space<global>>, vector<4xf32>
// GPU: gpu.barrier
// GPU: vector.store {{.*}}memref<16777216xf32, #gpu.address_space<global>>, vector<4xf32>

// WAVE: pitch = 33 : i64} : () -> memref<64x32xf32>
func.func @main(%x: tensor<4096x4096xf32>) -> tensor<4096x4096xf32> {
  %0 = "graph.transpose"(%x) {perm = [1, 0]} : (tensor<4096x4096xf32>) -> tensor<4096x4096xf32>
  return %0 : tensor<4096x4096xf32>
}

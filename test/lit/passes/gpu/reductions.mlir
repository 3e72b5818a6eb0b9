// choose-mapping: the threads of a block share the reduction of a long row, and join their parts by shuffles and block memory.
// RUN: %mlc-opt %s --target=cuda:sm_80 --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline)' | filecheck %s
// RUN: %mlc-opt %s --target=rocm:gfx942 --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline,gpu-kernel-pipeline)' | filecheck %s --check-prefix=WAVE64

// CHECK: "task.reduce"
// CHECK: map = #task.map<{{.*}}spatial(1, {{[0-9]+}})
// WAVE64: %[[WIDTH:.*]] = arith.constant 64 : i32
// WAVE64: gpu.shuffle xor
func.func @main(%x: tensor<64x8192xf32>) -> tensor<64xf32> {
  %0 = "graph.reduce"(%x) {kind = "sum", axes = [1]} : (tensor<64x8192xf32>) -> tensor<64xf32>
  return %0 : tensor<64xf32>
}

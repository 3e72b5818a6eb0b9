// choose-mapping: a softmax's row that registers of one block do not hold is split among the blocks of a cluster, which join their parts by writing
// to each other's shared memory; without clusters it lies in the shared memory of one block.
// RUN: %mlc-opt %s --target=cuda:sm_90a --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline)' | filecheck %s
// RUN: %mlc-opt %s --target=cuda:sm_90a --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline,gpu-kernel-pipeline)' | filecheck %s --check-prefix=GPU
// RUN: %mlc-opt %s --target=cuda:sm_90a,cluster=0 --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline)' | filecheck %s --check-prefix=ALONE

// CHECK-NOT: level = "shared"
// CHECK: map = #task.map<repeat(1, 4) * spatial(1, 2048) * repeat(1, 8)>
// CHECK: grid = [2048], {{.*}}split = 8 : i64, {{.*}}threads = 2048

// GPU: known_block_size = array<i32: 256, 1, 1>, known_cluster_size = array<i32: 8, 1, 1>{{.*}}task.grid = [16384]
// GPU: nvvm.cluster.arrive.relaxed
// GPU-NOT: gpu.barrier
// GPU-COUNT-4: vector.load
// GPU: nvvm.cluster.wait
// GPU: nvvm.mapa
// GPU: llvm.store {{.*}} : f32, !llvm.ptr<7>
// GPU: nvvm.cluster.arrive
// GPU: nvvm.cluster.wait
// GPU: memref.load
// GPU-NOT: vector.load
// GPU: nvvm.mapa
// GPU-COUNT-4: vector.store

// ALONE: level = "shared"
// ALONE-NOT: split
func.func @main(%x: tensor<2048x65536xf16>) -> tensor<2048x65536xf16> {
  %0 = "graph.softmax"(%x) {axis = 1} : (tensor<2048x65536xf16>) -> tensor<2048x65536xf16>
  return %0 : tensor<2048x65536xf16>
}

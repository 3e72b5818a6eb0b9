// connect and choose-tiles: a softmax between two products is one kernel whatever its rows' length, and its ops are of level "stream".
// RUN: %mlc-opt %s --target=cuda:sm_90a --lower-graph-to-tile --mlc-dce --tile-pipeline | filecheck %s
// RUN: %mlc-opt %s --target=cuda:sm_90a --lower-graph-to-tile --mlc-dce --tile-pipeline --lower-tile-to-task | filecheck %s --check-prefix TASK
// RUN: %mlc-opt %s --target=cuda:sm_90a --lower-graph-to-tile --mlc-dce --tile-pipeline --task-pipeline | filecheck %s --check-prefix MAPPED
// RUN: %mlc-opt %s --target=cuda:sm_90a --lower-graph-to-tile --mlc-dce --tile-pipeline --task-pipeline --lower-task-to-gpu | filecheck %s --check-prefix GPU

// CHECK-LABEL: func.func @causal
// CHECK: "tile.graph"(%arg0, %arg1, %arg2)
// CHECK-COUNT-9: tile.level = "stream"
// CHECK-NOT: tile.level
// CHECK: {tile.sizes = [1, 1, 1, 128, 64]}
// CHECK-NOT: "tile.graph"

// The scale is taken out of the score, the causal mask is an expression; the division becomes the result's.
// TASK-DAG: #[[SEEN:.*]] = affine_map<(d0, d1, d2, d3, d4, d5, d6, d7, d8, d9) -> (d3 - d5 + d9)>
// TASK: "task.stream"(%{{.*}}) ({
// TASK-NEXT: ^bb0({{.*}}, %[[S:.*]]: f32):
// TASK-NEXT: "task.yield"(%[[S]]) : (f32) -> ()
// TASK: ^bb0({{.*}}, %[[SUM:.*]]: f32, %[[TOTAL:.*]]: f32):
// TASK: %[[T:.*]] = arith.maximumf %[[TOTAL]]
// TASK: %[[R:.*]] = arith.divf %{{.*}}, %[[T]]
// TASK: arith.mulf %[[SUM]], %[[R]]
// TASK: "task.store"
// TASK: {columns = [4], extents = [1, 1, 1, 128, 64, 4096, 64], {{.*}}scale = 1.250000e-01 : f64, seen = #[[SEEN]]}

// MAPPED: {atom = "wgmma.m64k16", {{.*}}stages = 4 : i64, step = 128 : i64, warps = 8 : i64, workspace = 0 : i64}
// MAPPED: threads = 384 : i64

// GPU: task.tensormaps = [{argument = 4 : i64, box = [1, 1, 128, 64], buffer = 0 : i64
// GPU-SAME: {argument = 5 : i64, box = [1, 1, 128, 64], buffer = 1 : i64
// GPU-SAME: {argument = 6 : i64, box = [1, 1, 128, 64], buffer = 2 : i64
// GPU: setmaxnreg.inc.sync.aligned.u32 240
// GPU: wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16
// GPU: math.exp2 %{{.*}} fastmath<afn>
// GPU: scf.for
// GPU: wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16
// GPU: wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16
// GPU: wgmma.wait_group.sync.aligned 1;
// GPU: setmaxnreg.dec.sync.aligned.u32 24
// GPU-COUNT-3: nvvm.cp.async.bulk.tensor.shared.cluster.global
func.func @causal(%q: tensor<4x16x4096x64xf16>, %k: tensor<4x16x4096x64xf16>, %v: tensor<4x16x4096x64xf16>) -> tensor<4x16x4096x64xf16> {
  %0 = "graph.attention"(%q, %k, %v) {scale = 0.125, right = 0}
    : (tensor<4x16x4096x64xf16>, tensor<4x16x4096x64xf16>, tensor<4x16x4096x64xf16>) -> tensor<4x16x4096x64xf16>
  return %0 : tensor<4x16x4096x64xf16>
}

// choose-scopes: where barriers are cheaper than launches, a loop is one kernel; its graphs' tiles are then few enough for its blocks.
// RUN: %mlc-opt %s --split-input-file --target=cuda:sm_90a --pass-pipeline='builtin.module(lower-graph-to-tile,fold-views,mlc-dce,connect,choose-scopes)' | filecheck %s
// RUN: %mlc-opt %s --split-input-file --target=cuda:sm_80 --pass-pipeline='builtin.module(lower-graph-to-tile,fold-views,mlc-dce,connect,choose-scopes)' | filecheck %s --check-prefix=ALONE
// RUN: %mlc-opt %s --split-input-file --target=cpu:x86-64-v3 --pass-pipeline='builtin.module(lower-graph-to-tile,fold-views,mlc-dce,connect,choose-scopes)' | filecheck %s --check-prefix=CPU

// CPU-NOT: tile.scope

// A recurrence: one cluster where there are clusters.
// CHECK-LABEL: func.func @recurrence
// CHECK: tile.sizes = [1, 16]
// CHECK: tile.blocks = 16 : i64, tile.scope = "cluster"
// ALONE-LABEL: func.func @recurrence
// ALONE-NOT: "cluster"
func.func @recurrence(%h: tensor<1x256xf16>, %x: tensor<32x1x256xf16>, %w: tensor<256x256xf16>) -> tensor<32x1x256xf16> {
  %last, %all = "flow.loop"(%h, %x) ({
  ^bb0(%i: tensor<i64>, %s: tensor<1x256xf16>, %xi: tensor<1x256xf16>):
    %0 = "graph.matmul"(%s, %w) : (tensor<1x256xf16>, tensor<256x256xf16>) -> tensor<1x256xf16>
    %1 = "graph.elementwise"(%0, %xi) {fn = "add"} : (tensor<1x256xf16>, tensor<1x256xf16>) -> tensor<1x256xf16>
    %n = "graph.elementwise"(%1) {fn = "tanh"} : (tensor<1x256xf16>) -> tensor<1x256xf16>
    "flow.yield"(%n, %n) : (tensor<1x256xf16>, tensor<1x256xf16>) -> ()
  }) {trip = 32, carried = 1} : (tensor<1x256xf16>, tensor<32x1x256xf16>) -> (tensor<1x256xf16>, tensor<32x1x256xf16>)
  return %all : tensor<32x1x256xf16>
}

// -----

// A running sum of a few numbers needs no more than one block.
// CHECK-LABEL: func.func @sums
// CHECK: tile.blocks = 1 : i64, tile.scope = "block"
// ALONE-LABEL: func.func @sums
// ALONE: tile.blocks = 1 : i64, tile.scope = "block"
func.func @sums(%zero: tensor<8xf32>, %x: tensor<32x8xf32>) -> tensor<8xf32> {
  %last = "flow.loop"(%zero, %x) ({
  ^bb0(%i: tensor<i64>, %s: tensor<8xf32>, %xi: tensor<8xf32>):
    %n = "graph.elementwise"(%s, %xi) {fn = "add"} : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
    "flow.yield"(%n) : (tensor<8xf32>) -> ()
  }) {trip = 32, carried = 1} : (tensor<8xf32>, tensor<32x8xf32>) -> tensor<8xf32>
  return %last : tensor<8xf32>
}

// -----

// Work for the whole machine stays there, and so does a loop that carries on what it does not make, or reads its counter.
// CHECK-LABEL: func.func @large
// CHECK-NOT: tile.scope
func.func @large(%h: tensor<512x4096xf16>, %w: tensor<4096x4096xf16>) -> tensor<512x4096xf16> {
  %last = "flow.loop"(%h) ({
  ^bb0(%i: tensor<i64>, %s: tensor<512x4096xf16>):
    %n = "graph.matmul"(%s, %w) : (tensor<512x4096xf16>, tensor<4096x4096xf16>) -> tensor<512x4096xf16>
    "flow.yield"(%n) : (tensor<512x4096xf16>) -> ()
  }) {trip = 8, carried = 1} : (tensor<512x4096xf16>) -> tensor<512x4096xf16>
  return %last : tensor<512x4096xf16>
}

// CHECK-LABEL: func.func @swapped
// CHECK-NOT: tile.scope
func.func @swapped(%a: tensor<8xf32>, %b: tensor<8xf32>) -> tensor<8xf32> {
  %p, %q = "flow.loop"(%a, %b) ({
  ^bb0(%i: tensor<i64>, %s: tensor<8xf32>, %t: tensor<8xf32>):
    %n = "graph.elementwise"(%s, %t) {fn = "add"} : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
    "flow.yield"(%t, %n) : (tensor<8xf32>, tensor<8xf32>) -> ()
  }) {trip = 8, carried = 2} : (tensor<8xf32>, tensor<8xf32>) -> (tensor<8xf32>, tensor<8xf32>)
  return %p : tensor<8xf32>
}

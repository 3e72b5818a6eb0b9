// hoist: a loop's invariant work moves in front of it; a branch gives up only weights and what is made of weights alone.
// RUN: %mlc-opt %s --split-input-file --hoist | filecheck %s

// The view of %x is the same in every iteration, that of the carried value is not; from the inner loop it climbs through both.
// CHECK-LABEL: func.func @loop(
// CHECK-SAME: %[[X:.*]]: tensor<2x3xf32>, %{{.*}}: tensor<6xf32>)
// CHECK: %[[V:.*]] = "tile.view"(%[[X]])
// CHECK: "flow.loop"
// CHECK: ^bb0(%{{.*}}: tensor<i64>, %[[S:.*]]: tensor<6xf32>):
// CHECK: "flow.loop"
// CHECK: "tile.view"(%{{.*}}) : (tensor<6xf32>) -> tensor<3x2xf32>
// CHECK: "flow.yield"(%[[V]])
func.func @loop(%x: tensor<2x3xf32>, %zero: tensor<6xf32>) -> tensor<6xf32> {
  %r = "flow.loop"(%zero) ({
  ^bb0(%i: tensor<i64>, %s: tensor<6xf32>):
    %t = "flow.loop"(%s) ({
    ^bb1(%j: tensor<i64>, %u: tensor<6xf32>):
      %own = "tile.view"(%u) : (tensor<6xf32>) -> tensor<3x2xf32>
      %v = "tile.view"(%x) : (tensor<2x3xf32>) -> tensor<6xf32>
      "flow.yield"(%v) : (tensor<6xf32>) -> ()
    }) {trip = 4, carried = 1} : (tensor<6xf32>) -> tensor<6xf32>
    "flow.yield"(%t) : (tensor<6xf32>) -> ()
  }) {trip = 8, carried = 1} : (tensor<6xf32>) -> tensor<6xf32>
  return %r : tensor<6xf32>
}

// -----

// CHECK-LABEL: func.func @branch(
// CHECK: %[[W:.*]] = "tile.weight"
// CHECK: %[[V:.*]] = "tile.view"(%[[W]])
// CHECK: "flow.if"
// CHECK: "flow.yield"(%[[V]])
// CHECK: "tile.view"(%{{.*}}) : (tensor<2x3xf32>) -> tensor<6xf32>
func.func @branch(%c: tensor<i1>, %x: tensor<2x3xf32>) -> tensor<6xf32> {
  %r = "flow.if"(%c) ({
    %w = "tile.weight"() {key = "w"} : () -> tensor<2x3xf32>
    %v = "tile.view"(%w) : (tensor<2x3xf32>) -> tensor<6xf32>
    "flow.yield"(%v) : (tensor<6xf32>) -> ()
  }, {
    %v = "tile.view"(%x) : (tensor<2x3xf32>) -> tensor<6xf32>
    "flow.yield"(%v) : (tensor<6xf32>) -> ()
  }) : (tensor<i1>) -> tensor<6xf32>
  return %r : tensor<6xf32>
}

// RUN: %roundtrip
// RUN: %mlc-opt %s --split-input-file --mlir-elide-elementsattrs-if-larger=2 | filecheck %s --check-prefix=ELIDE

// CHECK-LABEL: func.func @constants
// CHECK: dense<[1, 2, 3]>
// ELIDE: dense_resource<__elided__>
func.func @constants() -> tensor<3xi64> {
  %0 = arith.constant dense<[1, 2, 3]> : tensor<3xi64>
  return %0 : tensor<3xi64>
}

// -----

// CHECK-LABEL: func.func @ours
// CHECK: "tile.graph"(%{{.*}}) ({
// CHECK: "tile.yield"
func.func @ours(%x: tensor<4xf32>) -> tensor<4xf32> {
  %r = "tile.graph"(%x) ({
  ^bb0(%a: tensor<4xf32>):
    "tile.yield"(%a) : (tensor<4xf32>) -> ()
  }) : (tensor<4xf32>) -> tensor<4xf32>
  return %r : tensor<4xf32>
}

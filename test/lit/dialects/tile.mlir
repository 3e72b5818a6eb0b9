// tile: the example of each op reads and prints the same through text and bytecode.
// RUN: %roundtrip

// CHECK-LABEL: func.func @graph_and_yield(
// CHECK: "tile.graph"(%{{.*}}) ({
// CHECK-NEXT: ^bb0(%[[A:.*]]: tensor<4xf32>):
// CHECK: linalg.generic {{.*}} ins(%[[A]] : tensor<4xf32>)
// CHECK: "tile.yield"(%{{.*}}) : (tensor<4xf32>) -> ()
// CHECK-NEXT: }) : (tensor<4xf32>) -> tensor<4xf32>
func.func @graph_and_yield(%x: tensor<4xf32>) {
  %r = "tile.graph"(%x) ({
  ^bb0(%a: tensor<4xf32>):
    %e = tensor.empty() : tensor<4xf32>
    %y = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]}
           ins(%a : tensor<4xf32>) outs(%e : tensor<4xf32>) {
    ^bb1(%v: f32, %out: f32):
      %n = arith.negf %v : f32
      linalg.yield %n : f32
    } -> tensor<4xf32>
    "tile.yield"(%y) : (tensor<4xf32>) -> ()
  }) : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// CHECK-LABEL: func.func @schedule(
// CHECK: {tile.level = "global"}
// CHECK: }) {tile.sizes = [4]}
func.func @schedule(%x: tensor<8xf32>) {
  %r = "tile.graph"(%x) ({
  ^bb0(%a: tensor<8xf32>):
    %e = tensor.empty() : tensor<8xf32>
    %y = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]}
           ins(%a : tensor<8xf32>) outs(%e : tensor<8xf32>) attrs = {tile.level = "global"} {
    ^bb1(%v: f32, %out: f32):
      linalg.yield %v : f32
    } -> tensor<8xf32>
    "tile.yield"(%y) : (tensor<8xf32>) -> ()
  }) {tile.sizes = [4]} : (tensor<8xf32>) -> tensor<8xf32>
  return
}

// CHECK-LABEL: func.func @view(
// CHECK: "tile.view"(%{{.*}}) : (tensor<2x3xf32>) -> tensor<6xf32>
func.func @view(%x: tensor<2x3xf32>) {
  %r = "tile.view"(%x) : (tensor<2x3xf32>) -> tensor<6xf32>
  return
}

// CHECK-LABEL: func.func @map(
// CHECK: "tile.map"(%{{.*}}) {columns = 1 : i64, group = 32 : i64, order = [0], width = 16 : i64} : (tensor<4x8x16xf32>) -> tensor<8x64xf32>
func.func @map(%p: tensor<4x8x16xf32>) {
  %w = "tile.map"(%p) {width = 16, columns = 1, order = [0], group = 32} : (tensor<4x8x16xf32>) -> tensor<8x64xf32>
  return
}

// CHECK-LABEL: func.func @weight(
// CHECK: "tile.weight"() {key = "fc.weight"} : () -> tensor<10x4xf32>
func.func @weight() {
  %w = "tile.weight"() {key = "fc.weight"} : () -> tensor<10x4xf32>
  return
}

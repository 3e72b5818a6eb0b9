// Our ops are merged and dropped inside flow regions too; a region sees the ops before it outside.
// RUN: %mlc-opt %s --mlc-dce --mlc-cse | filecheck %s

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[A:.*]] = "graph.elementwise"(%arg0) {fn = "exp"}
// CHECK-NEXT: %[[R:.*]] = "flow.loop"(%[[A]], %arg1)
// CHECK-NEXT: ^bb0(%{{.*}}: tensor<i64>, %[[S:.*]]: tensor<4xf32>, %{{.*}}: tensor<4xf32>):
// CHECK-NEXT: %[[C:.*]] = "graph.elementwise"(%[[S]], %[[A]]) {fn = "add"}
// CHECK-NEXT: "flow.yield"(%[[C]])
// CHECK-NOT: flow.loop
// CHECK: return %[[R]], %[[A]]

func.func @main(%x: tensor<4xf32>, %n: tensor<3x4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  %a = "graph.elementwise"(%x) {fn = "exp"} : (tensor<4xf32>) -> tensor<4xf32>
  %r = "flow.loop"(%a, %n) ({
  ^bb0(%i: tensor<i64>, %s: tensor<4xf32>, %xi: tensor<4xf32>):
    %b = "graph.elementwise"(%x) {fn = "exp"} : (tensor<4xf32>) -> tensor<4xf32>
    %c = "graph.elementwise"(%s, %b) {fn = "add"} : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    %d = "graph.elementwise"(%s, %b) {fn = "add"} : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    %e = "graph.elementwise"(%c) {fn = "neg"} : (tensor<4xf32>) -> tensor<4xf32>
    "flow.yield"(%d) : (tensor<4xf32>) -> ()
  }) {trip = 3, carried = 1} : (tensor<4xf32>, tensor<3x4xf32>) -> tensor<4xf32>
  %unused = "flow.loop"(%a, %n) ({
  ^bb0(%i: tensor<i64>, %s: tensor<4xf32>, %xi: tensor<4xf32>):
    "flow.yield"(%s) : (tensor<4xf32>) -> ()
  }) {trip = 3, carried = 1} : (tensor<4xf32>, tensor<3x4xf32>) -> tensor<4xf32>
  return %r, %a : tensor<4xf32>, tensor<4xf32>
}

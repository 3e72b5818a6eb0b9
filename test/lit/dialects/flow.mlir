// flow: the example of each op reads and prints the same through text and bytecode.
// RUN: %roundtrip

// CHECK-LABEL: func.func @if_and_yield(
// CHECK: "flow.if"(%{{.*}}) ({
// CHECK-NEXT: "flow.yield"(%{{.*}}) : (tensor<4xf32>) -> ()
// CHECK-NEXT: }, {
// CHECK-NEXT: "flow.yield"(%{{.*}}) : (tensor<4xf32>) -> ()
// CHECK-NEXT: }) : (tensor<i1>) -> tensor<4xf32>
func.func @if_and_yield(%c: tensor<i1>, %a: tensor<4xf32>, %b: tensor<4xf32>) {
  %r = "flow.if"(%c) ({ "flow.yield"(%a) : (tensor<4xf32>) -> () }, { "flow.yield"(%b) : (tensor<4xf32>) -> () })
       : (tensor<i1>) -> tensor<4xf32>
  return
}

// CHECK-LABEL: func.func @loop(
// CHECK: "flow.loop"(%{{.*}}) ({
// CHECK-NEXT: ^bb0(%{{.*}}: tensor<i64>, %{{.*}}: tensor<4xf32>, %{{.*}}: tensor<4xf32>):
// CHECK: }) {carried = 1 : i64, trip = 8 : i64} : (tensor<4xf32>, tensor<8x4xf32>) -> (tensor<4xf32>, tensor<8x4xf32>)
func.func @loop(%zero: tensor<4xf32>, %x: tensor<8x4xf32>) {
  %last, %all = "flow.loop"(%zero, %x) ({
  ^bb0(%i: tensor<i64>, %s: tensor<4xf32>, %xi: tensor<4xf32>):
    %n = "graph.elementwise"(%s, %xi) {fn = "add"} : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    "flow.yield"(%n, %n) : (tensor<4xf32>, tensor<4xf32>) -> ()
  }) {trip = 8, carried = 1} : (tensor<4xf32>, tensor<8x4xf32>) -> (tensor<4xf32>, tensor<8x4xf32>)
  return
}

// CHECK-LABEL: func.func @while(
// CHECK: "flow.while"(%{{.*}}) ({
// CHECK-NEXT: ^bb0(%{{.*}}: tensor<i64>, %{{.*}}: tensor<4xf32>):
// CHECK: }) : (tensor<i64>, tensor<i1>, tensor<4xf32>) -> tensor<4xf32>
func.func @while(%limit: tensor<i64>, %go: tensor<i1>, %x: tensor<4xf32>) {
  %r = "flow.while"(%limit, %go, %x) ({
  ^bb0(%i: tensor<i64>, %v: tensor<4xf32>):
    %n = "graph.elementwise"(%v) {fn = "tanh"} : (tensor<4xf32>) -> tensor<4xf32>
    "flow.yield"(%go, %n) : (tensor<i1>, tensor<4xf32>) -> ()
  }) : (tensor<i64>, tensor<i1>, tensor<4xf32>) -> tensor<4xf32>
  return
}

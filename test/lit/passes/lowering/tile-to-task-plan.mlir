// lower-tile-to-task: what @main becomes: launches, control flow, destinations; equal kernels are one.
// RUN: %mlc-opt %s --split-input-file --lower-graph-to-tile --lower-tile-to-task | filecheck %s

// Two equal layers launch one kernel.
// CHECK: sym_name = "kernel_0"
// CHECK: sym_name = "kernel_1"
// CHECK-NOT: task.kernel
// CHECK-LABEL: func.func @dedupe
// CHECK: "task.launch"({{.*}}) {kernel = "kernel_0"}
// CHECK: "task.launch"({{.*}}) {kernel = "kernel_1"}
// CHECK: "task.launch"({{.*}}) {kernel = "kernel_0"}
// CHECK: "task.launch"({{.*}}) {kernel = "kernel_1"}
func.func @dedupe(%x: tensor<8x16xf32>, %v: tensor<16x16xf32>, %w: tensor<16x16xf32>) -> tensor<8x16xf32> {
  %0 = "graph.matmul"(%x, %v) : (tensor<8x16xf32>, tensor<16x16xf32>) -> tensor<8x16xf32>
  %1 = "graph.elementwise"(%0) {fn = "relu"} : (tensor<8x16xf32>) -> tensor<8x16xf32>
  %2 = "graph.matmul"(%1, %w) : (tensor<8x16xf32>, tensor<16x16xf32>) -> tensor<8x16xf32>
  %3 = "graph.elementwise"(%2) {fn = "relu"} : (tensor<8x16xf32>) -> tensor<8x16xf32>
  return %3 : tensor<8x16xf32>
}

// -----

// The last kernel writes the output; the one before it a buffer without a place yet; nothing is copied.
// CHECK-LABEL: func.func @destination
// CHECK-SAME: (%[[X:.*]]: memref<8xf32>, %[[OUT:.*]]: memref<8xf32>) attributes {task.inputs = 1 : i64}
// CHECK: %[[T:.*]] = "task.buffer"() {offset = -1 : i64} : () -> memref<8xf32>
// CHECK: "task.launch"(%[[X]], %[[T]])
// CHECK: "task.launch"(%[[T]], %[[OUT]])
// CHECK-NOT: task.copy
func.func @destination(%x: tensor<8xf32>) -> tensor<8xf32> {
  %0 = "graph.elementwise"(%x) {fn = "tanh"} : (tensor<8xf32>) -> tensor<8xf32>
  %1 = "graph.elementwise"(%0) {fn = "relu"} : (tensor<8xf32>) -> tensor<8xf32>
  return %1 : tensor<8xf32>
}

// -----

// An input, or one value for two outputs, has to be copied: all in one step.
// CHECK-LABEL: func.func @copies
// CHECK-SAME: (%[[X:[^:]*]]: memref<8xf32>, %[[A:[^:]*]]: memref<8xf32>, %[[B:[^:]*]]: memref<8xf32>, %[[C:[^:]*]]: memref<8xf32>)
// CHECK: "task.launch"(%[[X]], %[[B]])
// CHECK: "task.copy"(%[[X]], %[[B]], %[[A]], %[[C]])
func.func @copies(%x: tensor<8xf32>) -> (tensor<8xf32>, tensor<8xf32>, tensor<8xf32>) {
  %0 = "graph.elementwise"(%x) {fn = "tanh"} : (tensor<8xf32>) -> tensor<8xf32>
  return %x, %0, %0 : tensor<8xf32>, tensor<8xf32>, tensor<8xf32>
}

// -----

// CHECK-LABEL: func.func @constants
// CHECK: %[[C:.*]] = "task.constant"() {value = dense<[1.000000e+00, 2.000000e+00]> : tensor<2xf32>} : () -> memref<2xf32>
// CHECK: %[[W:.*]] = "task.weight"() {key = "w"} : () -> memref<2xf32>
// CHECK: "task.launch"(%[[C]], %[[W]], %{{.*}})
func.func @constants() -> tensor<2xf32> {
  %0 = "graph.constant"() {bytes = "0000803F00000040"} : () -> tensor<2xf32>
  %1 = "graph.weight"() {key = "w"} : () -> tensor<2xf32>
  %2 = "graph.elementwise"(%0, %1) {fn = "add"} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  return %2 : tensor<2xf32>
}

// -----

// Both branches make the result in its final place; nobody takes a branch before all have read the condition.
// CHECK-LABEL: func.func @if
// CHECK: memref.load %[[C:.*]][] : memref<i8>
// CHECK: "task.barrier"() {scope = "grid"}
// CHECK: scf.if
// CHECK: "task.launch"(%[[X:.*]], %[[OUT:.*]]) {kernel = "kernel_0"}
// CHECK: } else {
// CHECK: "task.copy"(%[[X]], %[[OUT]])
func.func @if(%c: tensor<i1>, %x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "flow.if"(%c) ({
    %1 = "graph.elementwise"(%x) {fn = "tanh"} : (tensor<4xf32>) -> tensor<4xf32>
    "flow.yield"(%1) : (tensor<4xf32>) -> ()
  }, {
    "flow.yield"(%x) : (tensor<4xf32>) -> ()
  }) : (tensor<i1>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

// Slices are read and written in place. A carried value that is also stacked is read where the iteration before it was stacked.
// CHECK-LABEL: func.func @loop
// CHECK-SAME: (%[[S:[^:]*]]: memref<4xf32>, %[[X:[^:]*]]: memref<8x4xf32>, %[[LAST:[^:]*]]: memref<4xf32>, %[[ALL:[^:]*]]: memref<8x4xf32>)
// CHECK: "task.launch"(%[[S]], %{{[^,]*}}, %{{[^)]*}})
// CHECK-NOT: task.copy
// CHECK: scf.for %[[I:.*]] = %{{.*}} to %{{.*}} step %{{.*}} {
// CHECK: %[[YI:.*]] = "task.slice"(%[[ALL]], %[[I]])
// CHECK: %[[BEFORE:.*]] = arith.subi %[[I]], %{{.*}}
// CHECK: %[[OLD:.*]] = "task.slice"(%[[ALL]], %[[BEFORE]])
// CHECK: %[[BACK:.*]] = arith.subi %{{.*}}, %[[I]]
// CHECK: %[[XI:.*]] = "task.slice"(%[[X]], %[[BACK]])
// CHECK: "task.launch"(%[[OLD]], %[[XI]], %[[YI]])
// CHECK: "task.copy"(%{{.*}}, %[[LAST]])
func.func @loop(%s: tensor<4xf32>, %x: tensor<8x4xf32>) -> (tensor<4xf32>, tensor<8x4xf32>) {
  %0:2 = "flow.loop"(%s, %x) ({
  ^bb0(%i: tensor<i64>, %a: tensor<4xf32>, %xi: tensor<4xf32>):
    %t = "graph.elementwise"(%a, %xi) {fn = "add"} : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    "flow.yield"(%t, %t) : (tensor<4xf32>, tensor<4xf32>) -> ()
  }) {trip = 8, carried = 1, reverse = [true, false]} : (tensor<4xf32>, tensor<8x4xf32>) -> (tensor<4xf32>, tensor<8x4xf32>)
  return %0#0, %0#1 : tensor<4xf32>, tensor<8x4xf32>
}

// -----

// Carried values alternate between two sets of buffers, so a view of an old one is copied straight to the new one.
// CHECK-LABEL: func.func @view_of_carried
// CHECK: scf.for
// CHECK: "task.launch"(%[[OLD:.*]], %[[NEW:.*]]) {kernel
// CHECK: %[[V:.*]] = "task.view"(%[[OLD]])
// CHECK: "task.copy"(%[[V]], %{{.*}})
// CHECK: "task.launch"(%[[NEW]], %[[OLD]]) {kernel
func.func @view_of_carried(%x: tensor<2x3xf32>, %y: tensor<6xf32>) -> (tensor<2x3xf32>, tensor<6xf32>) {
  %0:2 = "flow.loop"(%x, %y) ({
  ^bb0(%i: tensor<i64>, %a: tensor<2x3xf32>, %b: tensor<6xf32>):
    %t = "graph.elementwise"(%a) {fn = "tanh"} : (tensor<2x3xf32>) -> tensor<2x3xf32>
    %v = "graph.reshape"(%a) {shape = [6]} : (tensor<2x3xf32>) -> tensor<6xf32>
    "flow.yield"(%t, %v) : (tensor<2x3xf32>, tensor<6xf32>) -> ()
  }) {trip = 8, carried = 2} : (tensor<2x3xf32>, tensor<6xf32>) -> (tensor<2x3xf32>, tensor<6xf32>)
  return %0#0, %0#1 : tensor<2x3xf32>, tensor<6xf32>
}

// -----

// The iteration number is stored only for bodies that read it.
// CHECK-LABEL: func.func @while
// CHECK: scf.while
// CHECK: arith.cmpi slt
// CHECK: "task.barrier"() {scope = "grid"}
// CHECK: scf.condition
// CHECK: "task.set"
// CHECK: "task.launch"
func.func @while(%n: tensor<i64>, %c: tensor<i1>, %x: tensor<i64>) -> tensor<i64> {
  %0 = "flow.while"(%n, %c, %x) ({
  ^bb0(%i: tensor<i64>, %a: tensor<i64>):
    %t = "graph.elementwise"(%a, %i) {fn = "add"} : (tensor<i64>, tensor<i64>) -> tensor<i64>
    "flow.yield"(%c, %t) : (tensor<i1>, tensor<i64>) -> ()
  }) : (tensor<i64>, tensor<i1>, tensor<i64>) -> tensor<i64>
  return %0 : tensor<i64>
}

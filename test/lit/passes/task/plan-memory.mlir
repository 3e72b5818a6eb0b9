// plan-memory: offsets in one arena; memory is used again after its last reader, never before.
// RUN: %mlc-opt %s --split-input-file --plan-memory | filecheck %s

// A chain needs two buffers at a time: the third takes the first one's place.
// CHECK-LABEL: func.func @chain
// CHECK-SAME: task.arena = 512 : i64
// CHECK: "task.buffer"() {offset = 0 : i64}
// CHECK: "task.buffer"() {offset = 256 : i64}
// CHECK: "task.buffer"() {offset = 0 : i64}
func.func @chain(%x: memref<64xf32>, %y: memref<64xf32>) {
  %a = "task.buffer"() {offset = -1} : () -> memref<64xf32>
  "task.launch"(%x, %a) {kernel = "k"} : (memref<64xf32>, memref<64xf32>) -> ()
  %b = "task.buffer"() {offset = -1} : () -> memref<64xf32>
  "task.launch"(%a, %b) {kernel = "k"} : (memref<64xf32>, memref<64xf32>) -> ()
  %c = "task.buffer"() {offset = -1} : () -> memref<64xf32>
  "task.launch"(%b, %c) {kernel = "k"} : (memref<64xf32>, memref<64xf32>) -> ()
  "task.launch"(%c, %y) {kernel = "k"} : (memref<64xf32>, memref<64xf32>) -> ()
  return
}

// -----

// A buffer that is read at the end keeps its place; the others share the rest.
// CHECK-LABEL: func.func @skip
// CHECK-SAME: task.arena = 768 : i64
// CHECK: "task.buffer"() {offset = 0 : i64}
// CHECK: "task.buffer"() {offset = 256 : i64}
// CHECK: "task.buffer"() {offset = 512 : i64}
func.func @skip(%x: memref<64xf32>, %y: memref<64xf32>) {
  %a = "task.buffer"() {offset = -1} : () -> memref<64xf32>
  "task.launch"(%x, %a) {kernel = "k"} : (memref<64xf32>, memref<64xf32>) -> ()
  %b = "task.buffer"() {offset = -1} : () -> memref<64xf32>
  "task.launch"(%a, %b) {kernel = "k"} : (memref<64xf32>, memref<64xf32>) -> ()
  %c = "task.buffer"() {offset = -1} : () -> memref<64xf32>
  "task.launch"(%b, %c) {kernel = "k"} : (memref<64xf32>, memref<64xf32>) -> ()
  "task.launch"(%c, %a, %y) {kernel = "k2"} : (memref<64xf32>, memref<64xf32>, memref<64xf32>) -> ()
  return
}

// -----

// Offsets are multiples of 64 bytes.
// CHECK-LABEL: func.func @aligned
// CHECK-SAME: task.arena = 128 : i64
// CHECK: "task.buffer"() {offset = {{0|64}} : i64} : () -> memref<3xf32>
// CHECK: "task.buffer"() {offset = {{0|64}} : i64} : () -> memref<f32>
func.func @aligned(%x: memref<3xf32>, %y: memref<f32>) {
  %a = "task.buffer"() {offset = -1} : () -> memref<3xf32>
  %b = "task.buffer"() {offset = -1} : () -> memref<f32>
  "task.launch"(%x, %a, %b) {kernel = "k"} : (memref<3xf32>, memref<3xf32>, memref<f32>) -> ()
  "task.launch"(%a, %b, %y) {kernel = "k"} : (memref<3xf32>, memref<f32>, memref<f32>) -> ()
  return
}

// -----

// A use through a view is a use.
// CHECK-LABEL: func.func @view
// CHECK-SAME: task.arena = 512 : i64
// CHECK: "task.buffer"() {offset = 0 : i64}
// CHECK: "task.buffer"() {offset = 256 : i64}
func.func @view(%x: memref<64xf32>, %y: memref<64xf32>) {
  %a = "task.buffer"() {offset = -1} : () -> memref<64xf32>
  "task.launch"(%x, %a) {kernel = "k"} : (memref<64xf32>, memref<64xf32>) -> ()
  %v = "task.view"(%a) : (memref<64xf32>) -> memref<8x8xf32>
  %b = "task.buffer"() {offset = -1} : () -> memref<64xf32>
  "task.launch"(%x, %b) {kernel = "k"} : (memref<64xf32>, memref<64xf32>) -> ()
  "task.launch"(%v, %b, %y) {kernel = "k2"} : (memref<8x8xf32>, memref<64xf32>, memref<64xf32>) -> ()
  return
}

// -----

// What a loop body reads from outside lives to the loop's end, for the next iteration: what the body makes after that read stays apart.
// CHECK-LABEL: func.func @loop
// CHECK-SAME: task.arena = 512 : i64
// CHECK: "task.buffer"() {offset = [[A:[0-9]+]] : i64}
// CHECK: scf.for
// CHECK-NOT: "task.buffer"() {offset = [[A]] : i64}
// CHECK: {{^ +[}]$}}
func.func @loop(%x: memref<64xf32>, %y: memref<64xf32>) {
  %a = "task.buffer"() {offset = -1} : () -> memref<64xf32>
  "task.launch"(%x, %a) {kernel = "k"} : (memref<64xf32>, memref<64xf32>) -> ()
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  scf.for %i = %c0 to %c8 step %c1 {
    "task.launch"(%a, %y) {kernel = "k"} : (memref<64xf32>, memref<64xf32>) -> ()
    %b = "task.buffer"() {offset = -1} : () -> memref<64xf32>
    "task.launch"(%x, %b) {kernel = "k"} : (memref<64xf32>, memref<64xf32>) -> ()
    "task.launch"(%b, %y) {kernel = "k"} : (memref<64xf32>, memref<64xf32>) -> ()
  }
  return
}

// -----

// What the body itself makes dies within an iteration: its memory serves twice.
// CHECK-LABEL: func.func @inside
// CHECK-SAME: task.arena = 256 : i64
// CHECK: "task.buffer"() {offset = 0 : i64}
// CHECK: "task.buffer"() {offset = 0 : i64}
func.func @inside(%x: memref<64xf32>, %y: memref<64xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  scf.for %i = %c0 to %c8 step %c1 {
    %a = "task.buffer"() {offset = -1} : () -> memref<64xf32>
    "task.launch"(%x, %a) {kernel = "k"} : (memref<64xf32>, memref<64xf32>) -> ()
    "task.launch"(%a, %y) {kernel = "k"} : (memref<64xf32>, memref<64xf32>) -> ()
    %b = "task.buffer"() {offset = -1} : () -> memref<64xf32>
    "task.launch"(%x, %b) {kernel = "k"} : (memref<64xf32>, memref<64xf32>) -> ()
    "task.launch"(%b, %y) {kernel = "k"} : (memref<64xf32>, memref<64xf32>) -> ()
  }
  return
}

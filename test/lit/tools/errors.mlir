// Errors point at file:line:col with the source line and a caret; bad parts do not stop good ones; exit code 1.
// RUN: not %mlc-opt %s --split-input-file --load-pass-plugin=%S/Inputs/passes.py --test-refuse --mlir-pass-pipeline-crash-reproducer= > %t.out 2> %t.err
// RUN: filecheck %s < %t.out
// RUN: filecheck %s --check-prefix=ERR < %t.err
// RUN: not %mlc-opt %S/nosuch.mlir 2>&1 | filecheck %s --check-prefix=NOFILE
// RUN: echo | not %mlc-opt -o %S/nosuch/x 2>&1 | filecheck %s --check-prefix=NOOUT

// NOFILE: mlc-opt: error: cannot read '{{.*}}nosuch.mlir': No such file or directory
// NOOUT: mlc-opt: error: cannot write '{{.*}}nosuch/x': No such file or directory
// NOFILE-NOT: Traceback

// ERR: errors.mlir:28:27: error: expected ':'
// ERR-NEXT: {{^}}func.func @f() { return %x }
// ERR-NEXT: {{^}}                          ^
// ERR-NEXT: errors.mlir:38:8: error: Dialect `graph' not found for custom op 'graph.matmul'
// ERR-NEXT: {{^}}  %0 = graph.matmul %a : f32
// ERR-NEXT: {{^}}       ^
// ERR-NEXT: note: mlc ops use the generic form, with the op name quoted
// ERR-NEXT: errors.mlir:45:3: error: unknown op 'tile.yields'
// ERR: errors.mlir:51:1: error: 'tile.graph' op yields [] but has results ['f32']
// ERR: errors.mlir:55:1: error: 'func.func' op is refused
// ERR-NEXT: func.func @refused() {
// ERR-NEXT: ^
// ERR-NEXT: errors.mlir:56:3: note: 'func.return' op because of this
// ERR-NEXT:   return
// ERR-NEXT:   ^
// ERR-NEXT: in pass 'test-refuse'
func.func @f() { return %x }

// -----

// CHECK: func.func @good
func.func @good() { return }

// -----

func.func @g(%a: f32) {
  %0 = graph.matmul %a : f32
  return
}

// -----

func.func @h() {
  "tile.yields"() : () -> ()
  return
}

// -----

"tile.graph"() ({ "tile.yield"() : () -> () }) : () -> f32

// -----

func.func @refused() {
  return
}

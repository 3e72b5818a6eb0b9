// RUN: %mlc-opt %s --split-input-file --verify-diagnostics --load-pass-plugin=%S/Inputs/passes.py --test-refuse
// RUN: sed '10s/is refused/is something else/' %s > %t.mlir
// RUN: not %mlc-opt %t.mlir --split-input-file --verify-diagnostics --load-pass-plugin=%S/Inputs/passes.py --test-refuse 2>&1 | filecheck %s

// CHECK: verify_diagnostics.mlir.tmp.mlir:11:1: error: unexpected error: 'func.func' op is refused
// CHECK: verify_diagnostics.mlir.tmp.mlir:10:1: error: expected error "op is something else" was not produced
// CHECK-NOT: {{[0-9]: error}}

// The nearest line without such a comment.
// expected-error@below {{op is refused}}
func.func @refused() {
  // expected-note@+1 {{because of this}}
  return
}

// -----

func.func @f() {
  return %x // expected-error {{expected ':'}}
}

// -----

func.func @h() {
  "tile.yields"() : () -> ()
  // expected-error@above {{unknown op 'tile.yields'}}
  return
}

// -----

// expected-error-re@+1 {{'func.func' op {{is (refused|rejected)}}}}
func.func @refused() {
  return // expected-note {{because}}
}

// -----

func.func @fine() { return }

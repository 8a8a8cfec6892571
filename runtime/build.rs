//! Tells the linker where the shipped binary's code begins and how it is laid out.

use std::env;

const LAYOUT: &str = "layout.ld";

/// Our own first instructions come before libc's. In the shipped, static binary the code that a container's life runs through lies side by side (`hack/layout`).
fn main() -> Result<(), env::VarError> {
    println!("cargo::rerun-if-changed={LAYOUT}");
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    // gabion-sys, `first.rs`.
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        println!("cargo::rustc-link-arg-bins=-Wl,-e,gabion_start");
    }
    if features.split(',').any(|feature| feature == "crt-static") {
        // Where it lies now, not where this program was compiled.
        let here = env::var("CARGO_MANIFEST_DIR")?;
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{here}/{LAYOUT}");
    }
    Ok(())
}

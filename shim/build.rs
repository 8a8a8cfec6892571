//! In the shipped, static binary the code that a shim's life runs through lies side by side (`hack/layout`).

const LAYOUT: &str = "layout.ld";

fn main() -> Result<(), std::env::VarError> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={LAYOUT}");
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if features.split(',').any(|feature| feature == "crt-static") {
        // Where it lies now, not where this program was compiled.
        let here = std::env::var("CARGO_MANIFEST_DIR")?;
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{here}/{LAYOUT}");
    }
    Ok(())
}

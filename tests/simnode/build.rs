//! Compiles the product's statement of the API: the fake kubelet serves one half of it and calls the other.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    let descriptors = protox::compile(["deviceplugin/v1beta1/api.proto"], ["../../proto"])?;
    tonic_prost_build::configure().btree_map(".").emit_rerun_if_changed(false).compile_fds(descriptors)?;
    Ok(())
}

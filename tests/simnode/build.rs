//! Compiles the product's statement of the APIs: the fake kubelet serves one half of the device
//! plugins' and calls the other, and serves podresources.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    for api in ["deviceplugin/v1beta1/api.proto", "podresources/v1/api.proto"] {
        let descriptors = protox::compile([api], ["../../proto"])?;
        tonic_prost_build::configure()
            .btree_map(".")
            .emit_rerun_if_changed(false)
            .compile_fds(descriptors)?;
    }
    Ok(())
}

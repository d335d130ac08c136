//! Writes the custom resource definitions as YAML, or checks that they are up to date.

fn main() {
    for crd in daylight_crds::definitions() {
        println!("{}", daylight_crds::manifest(&crd));
    }
}

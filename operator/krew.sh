#!/usr/bin/env bash
# Packs binaries of daylight as a plugin for krew, kubectl's plugin manager: an archive for each platform,
# and the manifest that names them.
set -euo pipefail

usage="usage: operator/krew.sh HOMEPAGE ARCHIVES OS/ARCH=BINARY...

Writes target/krew/daylight.yaml, and target/krew/daylight-OS-ARCH.tar.gz for each binary.
  HOMEPAGE   address of the project, as the manifest shows it
  ARCHIVES   address of the folder in which you publish the archives

    cargo build --release --bin daylight
    operator/krew.sh https://example.com https://example.com/v0.1.0 linux/amd64=target/release/daylight
    kubectl krew install --manifest=target/krew/daylight.yaml --archive=target/krew/daylight-linux-amd64.tar.gz"

if (($# < 3)); then
    echo "$usage" >&2
    exit 2
fi
homepage=$1 archives=${2%/}
shift 2

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
output=$root/target/krew
manifest=$output/daylight.yaml
mkdir -p "$output"

cat >"$manifest" <<END
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: daylight
spec:
  version: v$version
  homepage: $homepage
  shortDescription: Show and control who uses idle GPUs
  description: |
    Daylight gives AI jobs every GPU they request and fills the rest with registered miners. This plugin
    shows who holds which GPU and why something waits, decides about registrations, stops all mining,
    and verifies the auditor's journal. It needs Daylight in the cluster.
  platforms:
END

for platform; do
    binary=${platform#*=} platform=${platform%%=*}
    os=${platform%/*} arch=${platform#*/}
    if [[ ! -f $binary || ! $os/$arch =~ ^[a-z]+/[a-z0-9]+$ ]]; then
        printf '%s=%s is not OS/ARCH=BINARY with a file that exists\n\n%s\n' "$platform" "$binary" "$usage" >&2
        exit 2
    fi
    name=daylight-$os-$arch.tar.gz
    contents=$(mktemp -d)
    install -m 755 "$binary" "$contents/kubectl-daylight"
    install -m 644 "$root/LICENSE" "$contents/LICENSE"
    # The same binary makes the same archive.
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$contents" -c LICENSE kubectl-daylight |
        gzip -9n >"$output/$name"
    rm -r "$contents"
    sha256=$(sha256sum "$output/$name")
    cat >>"$manifest" <<END
    - selector:
        matchLabels:
          os: $os
          arch: $arch
      uri: $archives/$name
      sha256: ${sha256%% *}
      bin: kubectl-daylight
END
done
echo "$manifest"

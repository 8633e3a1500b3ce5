# The build: one folder of links to its parts. Nix itself makes it: no nixpkgs, no network, no toolchain. It
# leaves out files called manifest.json or manifest.nix, and adds one called manifest.nix, which nothing of Bureau reads.
parts:
derivation {
  name = "bureau-host-env";
  system = "builtin";
  builder = "builtin:buildenv";
  # Active, with the usual priority, one path each.
  derivations = map (part: [ "true" 5 1 part ]) parts;
  manifest = builtins.toFile "bureau-host-env-manifest" "[ ]";
  preferLocalBuild = true;
  allowSubstitutes = false;
}

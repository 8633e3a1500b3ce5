# One build for a host: nix-build nix/host-env.nix -A environment --argstr build /path/to/dist/builds/ID
#
# A part's path follows from nothing but its content, so a change of one program changes that one's, the manifest's, and
# the environment's, which are small.
{ build }:
let
  startsWith = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;

  # What lies at `below` in the build, at the same place in a store path of its own.
  part =
    name: below:
    let
      wanted = "${build}/${below}";
    in
    builtins.path {
      inherit name;
      path = build;
      filter = path: _: path == wanted || startsWith "${wanted}/" path || startsWith "${path}/" wanted;
    };

  programs = builtins.attrNames (builtins.readDir "${build}/lib");
  parts = [
    (part "bureau-bin" "bin")
    (part "bureau-runtime" "runtime")
    (part "bureau-manifest" "build.json")
  ]
  ++ map (name: part name "lib/${name}") programs;
  environment = import ./environment.nix parts;
in
{
  inherit environment;
  # What a flake has to be told: its paths, and what they are to make.
  told = {
    inherit parts;
    path = environment.outPath;
  };
}

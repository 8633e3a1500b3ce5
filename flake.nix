# `nix build .#bureau-host-env`: the programs that `npm run build` made, as a path in the Nix store. See
# docs/host-environment.md, and docs/decisions/0024-a-flake-sees-the-build.md for how a flake gets to see them.
{
  description = "Bureau's programs for one machine";

  outputs =
    _:
    let
      # `npm run build` has added the parts to the store, each named by its content.
      inStore = path: builtins.appendContext path { ${path}.path = true; };
      packagesOf = parts: rec {
        bureau-host-env = import ./nix/environment.nix (map inStore parts);
        default = bureau-host-env;
      };
    in
    {
      packages = builtins.mapAttrs (_: packagesOf) (import ./nix/build.nix);
    };
}

# System → store paths of the parts of the newest build there. Written over by `npm run build` where there is Nix; Git does not
# see that (docs/decisions/0024-a-flake-sees-the-build.md).
let
  unbuilt = throw "Bureau is not built here: npm run build, with Nix on PATH, then try again";
in
{
  x86_64-linux = unbuilt;
  aarch64-linux = unbuilt;
}

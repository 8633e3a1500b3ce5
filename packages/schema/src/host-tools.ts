/** Paths of the host that a sandbox without a Nix environment sees: programs and libraries, never all of /etc. */

export const hostToolFolders = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"] as const;

/** What common programs read to find libraries, alternatives, certificates, time zone and service names. */
export const hostToolSettings = [
  "/etc/alternatives",
  "/etc/ssl/certs",
  "/etc/ssl/openssl.cnf",
  "/etc/pki/tls/certs",
  "/etc/pki/ca-trust",
  "/etc/ca-certificates",
  "/etc/ld.so.cache",
  "/etc/ld.so.conf",
  "/etc/ld.so.conf.d",
  "/etc/localtime",
  "/etc/mime.types",
  "/etc/services",
  "/etc/protocols",
] as const;

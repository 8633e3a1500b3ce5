/** What of the host a sandbox without an environment of its own may see: programs and libraries, never /etc whole. */

export const hostToolFolders = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"] as const;

/** What common programs need to find libraries, alternatives, certificates, time zone and service names. */
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

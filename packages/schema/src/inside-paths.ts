/** Paths as a sandboxed program sees them (wire facts, section 1.7). */
export const insidePaths = {
  run: "/run/bureau",
  proxySocket: "/run/bureau/proxy.sock",
  /** The proxy's socket for the hosts in the template's `egress`. */
  egressSocket: "/run/bureau/egress.sock",
  payload: "/run/bureau/payload.json",
  trigger: "/run/bureau/trigger.json",
  secrets: "/run/bureau/secrets",
  /** Sockets of required services, `<role>.sock`, and below it `token/<role>.token`. */
  services: "/run/bureau/service",
  serviceTokens: "/run/bureau/service/token",
  listen: "/run/bureau/listen",
  serviceSocket: "/run/bureau/listen/service.sock",
  /** Bureau's own programs and their runtime, read-only; `bin` in it is on PATH: bureau-bridge and the like. */
  programs: "/run/bureau/programs",
  scratch: "/scratch",
  home: "/workspace",
} as const;

/** The name of a service's socket in its folder `listen`. */
export const serviceSocketName = "service.sock";

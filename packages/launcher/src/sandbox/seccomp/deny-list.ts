/**
 * System calls that the filter refuses to a program in a sandbox, and their errno. Everything else is allowed: an allow
 * list would refuse new calls of the next C library or kernel.
 *
 * The errno is one that programs handle. ENOSYS means "this kernel has no such call": programs use a fallback. clone3 needs
 * it, because its flags are in memory that a filter cannot read; every C library falls back to clone.
 * ptrace is not listed: the sandbox's own pid namespace confines it, and sanitizers, gdb and strace need it.
 */
import { constants } from "node:os";
import type { SecurityException } from "@bureau/schema/template";
import type { SyscallName } from "./syscall-numbers.ts";

const { EPERM, ENOSYS, EAFNOSUPPORT, EPROTONOSUPPORT } = constants.errno;

/** Holds when the low 32 bits of an argument, under `mask`, are `oneOf` the values, or none of `noneOf`. */
export type Condition = { readonly argument: number; readonly mask?: number } & (
  | { readonly oneOf: readonly number[] }
  | { readonly noneOf: readonly number[] }
);

export type DenyRule = {
  readonly syscalls: readonly SyscallName[];
  readonly errno: number;
  /** All must hold; without conditions the call is always refused. */
  readonly when?: readonly Condition[];
  /** The exception of a template that lifts this rule. */
  readonly unless?: SecurityException;
};

const CLONE_NEWUSER = 0x1000_0000;
const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const AF_NETLINK = 16;
const NETLINK_ROUTE = 0;
const TIOCSTI = 0x5412;
const TIOCLINUX = 0x541c;

export const denyList: readonly DenyRule[] = [
  { syscalls: ["clone3"], errno: ENOSYS, unless: "nested_userns" },
  // A nested user namespace exposes most of the kernel to its creator.
  {
    syscalls: ["clone", "unshare"],
    errno: EPERM,
    when: [{ argument: 0, mask: CLONE_NEWUSER, oneOf: [CLONE_NEWUSER] }],
    unless: "nested_userns",
  },
  {
    syscalls: ["setns", "mount", "umount2", "pivot_root"],
    errno: EPERM,
    unless: "nested_userns",
  },
  {
    syscalls: [
      "open_tree",
      "open_tree_attr",
      "move_mount",
      "fsopen",
      "fsconfig",
      "fsmount",
      "fspick",
      "mount_setattr",
    ],
    errno: ENOSYS,
    unless: "nested_userns",
  },
  // Keyrings belong to a user of the host, not to a sandbox.
  { syscalls: ["keyctl", "add_key", "request_key"], errno: EPERM },
  // io_uring creates sockets that the rules below do not cover.
  {
    syscalls: ["io_uring_setup", "io_uring_enter", "io_uring_register", "bpf", "userfaultfd"],
    errno: ENOSYS,
  },
  { syscalls: ["perf_event_open"], errno: ENOSYS, unless: "perf" },
  // These need capabilities that no program inside has; this filter is a second check besides the kernel's.
  {
    syscalls: [
      "open_by_handle_at",
      "fanotify_init",
      "quotactl",
      "quotactl_fd",
      "swapon",
      "swapoff",
      "acct",
      "syslog",
      "reboot",
      "init_module",
      "finit_module",
      "delete_module",
    ],
    errno: EPERM,
  },
  { syscalls: ["kexec_load", "kexec_file_load"], errno: ENOSYS },
  // vsock, for example, reaches the hypervisor in spite of the network namespace.
  {
    syscalls: ["socket", "socketpair"],
    errno: EAFNOSUPPORT,
    when: [{ argument: 0, noneOf: [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK] }],
  },
  {
    syscalls: ["socket"],
    errno: EPROTONOSUPPORT,
    when: [
      { argument: 0, oneOf: [AF_NETLINK] },
      { argument: 2, noneOf: [NETLINK_ROUTE] },
    ],
    unless: "netlink",
  },
  // They type into the terminal. The kernel reads 32 bits of the request, so the filter compares 32.
  { syscalls: ["ioctl"], errno: EPERM, when: [{ argument: 1, oneOf: [TIOCSTI, TIOCLINUX] }] },
];

/** `bureau template`: commands about templates. */
import { type CommandGroup, jsonFlag, sessionFlags } from "../command/command.ts";
import { fleetFlag } from "./fleet-flag.ts";

export const template: CommandGroup = {
  name: "template",
  summary: "What agents and services are made from",
  commands: [
    {
      name: "list",
      summary: "List the templates of a room",
      positionals: [{ name: "room", summary: "Room localpart (default: bureau/template)", optional: true }],
      flags: { ...sessionFlags, ...jsonFlag },
      examples: ["bureau template list"],
      load: () => import("../template/list.ts"),
    },
    {
      name: "show",
      summary: "Show a template with everything it inherits",
      positionals: [{ name: "ref", summary: "Template reference, bureau/template:agent" }],
      flags: {
        ...sessionFlags,
        ...jsonFlag,
        raw: { type: "boolean", summary: "Only what it says itself" },
      },
      examples: ["bureau template show bureau/template:agent"],
      load: () => import("../template/show.ts"),
    },
    {
      name: "publish",
      summary: "Publish a template from a JSON file",
      details: "The file is checked, and so is everything it inherits from, before anything is written.",
      positionals: [{ name: "ref", summary: "Template reference, bureau/template:mine" }],
      flags: {
        ...sessionFlags,
        ...jsonFlag,
        file: { type: "string", value: "PATH", summary: 'JSON file; "-" for standard input' },
        "dry-run": { type: "boolean", summary: "Check and show, write nothing" },
      },
      examples: ["bureau template publish bureau/template:web --file web.json"],
      load: () => import("../template/publish.ts"),
    },
    {
      name: "update",
      summary: "Change a template; whoever is made from it is restarted, and rolled back if that fails",
      details:
        "Changes the fields that are given and leaves the others. Only principals of the fleet that use the template, or\ninherit from it, are touched. Each machine restarts its own with grace, checks their health, and goes back to what\nran before when the new one does not work. --wait follows that; its exit code is 1 when anything was rolled back.",
      positionals: [{ name: "ref", summary: "Template reference, bureau/template:mine" }],
      flags: {
        ...sessionFlags,
        ...jsonFlag,
        ...fleetFlag,
        environment: { type: "string", value: "PATH", summary: "The Nix store path that it runs in" },
        command: { type: "string", value: "TEXT", summary: "What it runs, by sh" },
        env: {
          type: "string",
          value: "NAME=VALUE",
          multiple: true,
          summary: "Add or replace an environment variable",
        },
        description: { type: "string", value: "TEXT", mayBeEmpty: true, summary: "Description for people" },
        set: {
          type: "string",
          value: "FIELD=VALUE",
          multiple: true,
          summary: "Any field, by its path: health_check.interval_seconds=5; JSON, else text",
        },
        unset: { type: "string", value: "FIELD", multiple: true, summary: "Leave a field out" },
        "dry-run": { type: "boolean", summary: "Say who would be touched, write nothing" },
        wait: {
          type: "boolean",
          excludes: ["dry-run"],
          summary: "Return when all of them run well, or were rolled back",
        },
        timeout: {
          type: "string",
          value: "DURATION",
          needs: ["wait"],
          summary: "How long --wait waits (default: 5m)",
        },
      },
      examples: [
        "bureau template update bureau/template:claude-agent --environment /nix/store/…-claude --dry-run",
        "bureau template update bureau/template:web --set health_check.interval_seconds=5 --wait",
      ],
      load: () => import("../template/update.ts"),
    },
    {
      name: "impact",
      summary: "Show who is made from a template, directly or through others",
      positionals: [{ name: "ref", summary: "Template reference, bureau/template:agent" }],
      flags: { ...sessionFlags, ...jsonFlag, ...fleetFlag },
      examples: ["bureau template impact bureau/template:agent"],
      load: () => import("../template/impact.ts"),
    },
  ],
};

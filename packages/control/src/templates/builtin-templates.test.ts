import { describe, expect, test } from "bun:test";
import { parse } from "@bureau/schema/parse";
import { TemplateSchema } from "@bureau/schema/template";
import { resolveTemplate } from "@bureau/schema/template-resolution";
import { builtinTemplates } from "./builtin-templates.ts";

const templates = builtinTemplates("bureau/template");
const lookup = (reference: string) => {
  const template = templates[reference.slice(reference.lastIndexOf(":") + 1)];
  return template === undefined ? { problem: `no ${reference}` } : { template };
};

describe("the built-in templates", () => {
  test("each is valid and resolves", () => {
    for (const [name, template] of Object.entries(templates)) {
      parse(TemplateSchema, template, name);
      expect(resolveTemplate(`bureau/template:${name}`, lookup).ok).toBe(true);
    }
  });

  test("an agent has no network and every namespace of its own", () => {
    for (const name of ["base", "agent", "service", "greeter"]) {
      const resolved = resolveTemplate(`bureau/template:${name}`, lookup);
      expect(resolved.ok && resolved.template.namespaces).toEqual({
        pid: true,
        net: true,
        ipc: true,
        uts: true,
      });
    }
  });

  test("an agent has a terminal that it controls; a service has none", () => {
    for (const [name, expected] of [
      ["agent", false],
      ["agent-base", false],
      ["greeter", false],
      ["service", true],
    ]) {
      const resolved = resolveTemplate(`bureau/template:${name}`, lookup);
      expect([name, resolved.ok && resolved.template.security?.new_session]).toEqual([name, expected]);
    }
  });

  test("only the networked ones share the host's network, and nothing else of it", () => {
    const resolved = resolveTemplate("bureau/template:agent-base", lookup);
    expect(resolved.ok && resolved.template.namespaces).toEqual({
      pid: true,
      net: false,
      ipc: true,
      uts: true,
    });
  });
});

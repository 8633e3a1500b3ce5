/** `bureau-service-sample`: the smallest service that tells its callers apart. Copy it to begin one. */
import { runService } from "@bureau/service-kit/run-service";
import { object, string } from "valibot";

void runService({
  program: "bureau-service-sample",
  role: "sample",
  offer: { description: "Greets its callers", capabilities: ["sample"] },
  follows: [],
  actions: ({ granted }) => ({
    greet: granted("sample/greet", object({ name: string() }), async ({ name }, caller) => ({
      text: `Hello, ${name}`,
      caller: caller.user,
    })),
    erase: granted("sample/erase", object({}), async () => ({ erased: true })),
  }),
});

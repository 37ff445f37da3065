/** Finding and linking nodes, on ComfyUI's graph objects that the caller passes in. */

/**
 * The node of an execution id such as "7" or, inside subgraphs, "1:7"; null when this graph has none. What a node has
 * expanded into runs under ids such as "7.0.0.3": that is still node 7.
 */
export function nodeOfExecutionId(rootGraph, executionId) {
  const path = String(executionId).split(".")[0].split(":");
  let graph = rootGraph;
  for (const id of path.slice(0, -1)) {
    graph = graph?.getNodeById(id)?.subgraph;
    if (!graph) return null;
  }
  return graph?.getNodeById(path[path.length - 1]) ?? null;
}

/** `[origin node, origin slot]` of what is linked to input `slot` of `node`, or null. */
export function originOf(node, slot) {
  const linkId = node.inputs?.[slot]?.link;
  if (linkId === null || linkId === undefined) return null;
  const links = node.graph?.links;
  const link = links?.get ? links.get(linkId) : links?.[linkId];
  const origin = link && node.graph.getNodeById(link.origin_id);
  return origin ? [origin, link.origin_slot] : null;
}

/** The nearest node of class `className` at or above `node` in its graph, or null. */
export function findUpstream(node, className) {
  const seen = new Set([node]);
  const queue = [node];
  while (queue.length) {
    const current = queue.shift();
    if (current.comfyClass === className) return current;
    for (let slot = 0; slot < (current.inputs?.length ?? 0); slot++) {
      const origin = originOf(current, slot)?.[0];
      if (origin && !seen.has(origin)) {
        seen.add(origin);
        queue.push(origin);
      }
    }
  }
  return null;
}

/** A place left of `target` for a node of `size` where no other node of the graph lies: moved down until it is free. */
export function freePlace(target, node) {
  const others = (target.graph.nodes ?? target.graph._nodes ?? []).filter((other) => other !== node && other.pos);
  // A loader grows when its preview comes, so it is given room from the start.
  const width = Math.max(node.size?.[0] ?? 0, 280);
  const height = Math.max(node.size?.[1] ?? 0, 320);
  const x = target.pos[0] - width - 60;
  let y = target.pos[1];
  for (let tries = 0; tries < others.length; tries++) {
    const hit = others.find(({ pos, size = [200, 100] }) => {
      return x < pos[0] + size[0] && pos[0] < x + width && y < pos[1] + size[1] + 30 && pos[1] < y + height + 30;
    });
    if (!hit) break;
    y = hit.pos[1] + hit.size[1] + 50;
  }
  return [x, y];
}

export function inputSlot(node, name) {
  return node.inputs?.findIndex((input) => input.name === name) ?? -1;
}

/** Make `value` the choice of `node`'s combo widget `name`, adding it to the choices if need be. */
export function choose(node, name, value) {
  const widget = node.widgets?.find((other) => other.name === name);
  if (!widget) return false;
  const choices = widget.options?.values;
  if (Array.isArray(choices) && !choices.includes(value)) choices.push(value);
  widget.value = value;
  widget.callback?.(value);
  return true;
}

/**
 * The node of class `className` that is linked to `target`'s input `slot`, made and linked if there is none.
 * Another kind of node at that input stays in the graph, only its link is replaced. Null when the class is unknown.
 */
export function feedFrom(target, slot, className, createNode) {
  const present = originOf(target, slot)?.[0];
  if (present?.comfyClass === className) return present;
  const source = createNode(className);
  if (!source) return null;
  target.graph.add(source);
  source.pos = freePlace(target, source);
  const wanted = target.inputs[slot].type;
  const output = source.outputs?.findIndex((other) => other.type === wanted) ?? -1;
  source.connect(Math.max(0, output), target, slot);
  return source;
}

/**
 * A new node of class `className` whose output goes to a free input of `target` of the same type, and whose own inputs take what
 * `target` already has of that type (the model, say). Null when `target` has no such free input.
 */
export function addBefore(target, className, createNode) {
  const helper = createNode(className);
  if (!helper) return null;
  const output = helper.outputs?.findIndex((out) => target.inputs?.some((input) => input.type === out.type)) ?? -1;
  if (output < 0) return null;
  const slot = target.inputs.findIndex((input) => input.type === helper.outputs[output].type);
  if (originOf(target, slot)) return null;
  target.graph.add(helper);
  helper.pos = freePlace(target, helper);
  helper.connect(output, target, slot);
  helper.inputs?.forEach((input, own) => {
    const same = target.inputs.findIndex((other) => other.type === input.type);
    const origin = same >= 0 ? originOf(target, same) : null;
    if (origin && !originOf(helper, own)) origin[0].connect(origin[1], helper, own);
  });
  return helper;
}

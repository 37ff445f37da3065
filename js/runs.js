/** Which events belong to which player, also for pages that come late: after a reload, in another tab, from the cache. */

/** Events of the server that players take; `note` is for the whole page. */
export const PLAYER_EVENTS = Object.freeze(["start", "clip", "progress", "done", "failed"]);

export class Runs {
  /**
   * `host`: `{api, graphId(), playerOf(executionId)}`. `graphId()` is the id of the workflow that the page shows.
   */
  constructor(host) {
    this.host = host;
    /** Workflow by prompt id, as far as events or the server have told. */
    this.workflows = new Map();
    /** Live events that wait until the server has told what was before them; null when nothing is asked. */
    this.waiting = null;
  }

  /** Whether an event is about the workflow on the page. Clients without a workflow send none: their node ids decide. */
  isShown(workflow) {
    return !workflow || workflow === String(this.host.graphId() ?? "");
  }

  /** Take the data of one of our events, live or told again; what a player had already is left out. */
  take(name, data) {
    if (!data?.node) return;
    if (this.waiting) return void this.waiting.push([name, data]);
    if (data.prompt_id && data.workflow) this.workflows.set(data.prompt_id, data.workflow);
    if (!this.isShown(data.workflow)) return;
    const player = this.host.playerOf(data.node);
    if (!player) return;
    if (name !== "frame") {
      if (data.seq <= player.seq) return;
      player.seq = data.seq;
    }
    player.handle(name, data);
  }

  async ask(path) {
    const answer = await this.host.api.fetchApi(path);
    return answer.ok ? answer.json() : {};
  }

  /** The page shows a workflow: tell its players what has happened so far. */
  async catchUp() {
    const workflow = this.host.graphId();
    if (!workflow) return;
    const live = (this.waiting ??= []);
    let told = [];
    try {
      ({ runs: told = [] } = await this.ask(`/mcdm/runs?${new URLSearchParams({ workflow })}`));
    } finally {
      if (this.waiting === live) this.waiting = null;
      for (const [name, data] of [...told.flat(), ...live]) this.take(name, data);
    }
  }

  /** The workflow of a prompt: known from its events, or asked for. */
  async workflowOf(promptId) {
    if (!this.workflows.has(promptId)) {
      const { workflow = "" } = await this.ask(`/mcdm/workflow?${new URLSearchParams({ prompt_id: promptId })}`);
      this.workflows.set(promptId, workflow);
    }
    return this.workflows.get(promptId);
  }

  /** ComfyUI's own `executed`: a result out of its cache comes without any event of ours. */
  async executed({ node, display_node: displayNode, prompt_id: promptId, output }) {
    const file = output?.video?.[0];
    if (!file?.filename) return;
    if (!this.isShown(await this.workflowOf(promptId))) return;
    const player = this.host.playerOf(displayNode ?? node);
    if (!player || player.running || player.shows(file)) return;
    const { filename, subfolder = "", type = "output" } = file;
    const { runs = [] } = await this.ask(`/mcdm/runs?${new URLSearchParams({ filename, subfolder, type })}`);
    if (player.running || player.shows(file)) return;
    if (!runs.length) return player.showFile(file, await secondsOf(player.address(file)));
    for (const events of runs) for (const [name, data] of events) player.handle(name, data);
  }
}

/** Length of a video in seconds, 0 if it cannot be read. */
function secondsOf(url) {
  return new Promise((resolve) => {
    const video = document.createElement("video");
    video.preload = "metadata";
    video.addEventListener("loadedmetadata", () => resolve(video.duration || 0), { once: true });
    video.addEventListener("error", () => resolve(0), { once: true });
    video.src = url;
  });
}

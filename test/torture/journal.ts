/** What an id may hold: a text, or nothing. */
export type State = string | undefined;

/**
 * The client's account of its writes: what was acknowledged, and what was sent without an answer coming back, which may
 * have been done or not. One write is under way for an id at a time.
 */
export class Journal {
  private readonly acknowledged = new Map<string, State>();
  private readonly underWay = new Map<string, State[]>();
  acknowledgements = 0;

  sends(ids: readonly string[], state: State): void {
    for (const id of ids) this.underWay.set(id, [...(this.underWay.get(id) ?? []), state]);
  }

  acknowledges(ids: readonly string[], state: State): void {
    this.acknowledgements++;
    for (const id of ids) {
      this.acknowledged.set(id, state);
      this.underWay.delete(id);
    }
  }

  /** It was refused: nothing of it was done. */
  refuses(ids: readonly string[]): void {
    for (const id of ids) {
      const left = this.underWay.get(id)!.slice(0, -1);
      if (left.length > 0) this.underWay.set(id, left);
      else this.underWay.delete(id);
    }
  }

  copy(): Journal {
    const copy = new Journal();
    for (const [id, state] of this.acknowledged) copy.acknowledged.set(id, state);
    for (const [id, states] of this.underWay) copy.underWay.set(id, states);
    return copy;
  }

  private ids(): Set<string> {
    return new Set([...this.acknowledged.keys(), ...this.underWay.keys()]);
  }

  /** @returns what a collection holds that it may not, and what it lacks */
  violations(found: ReadonlyMap<string, string>): string[] {
    const known = this.ids();
    const phantoms = [...found.keys()]
      .filter((id) => !known.has(id))
      .map((id) => `phantom: ${id} was never sent`);
    const others = [...known].flatMap((id) => {
      const allowed = [this.acknowledged.get(id), ...(this.underWay.get(id) ?? [])];
      const it = found.get(id);
      if (allowed.includes(it)) return [];
      const what = it === undefined ? 'lost' : this.acknowledged.get(id) === undefined ? 'phantom' : 'wrong';
      return [`${what}: ${id} may hold ${allowed.map(quote).join(' or ')}, holds ${quote(it)}`];
    });
    return [...phantoms, ...others];
  }

  /** Takes what was found, and may be, as what is there. */
  settle(found: ReadonlyMap<string, string>): void {
    for (const id of this.ids()) this.acknowledged.set(id, found.get(id));
    this.underWay.clear();
  }
}

function quote(state: State): string {
  return state === undefined ? 'nothing' : JSON.stringify(state);
}

/** What was asked for last, of answers that may come in another order. */
export class Latest<T> {
  private asked = 0;
  private answered = 0;

  constructor(private latest: T) {}

  get value(): T {
    return this.latest;
  }

  /** The answer; it is the value from here on, unless that of a later question is already. */
  async ask(question: () => Promise<T>): Promise<T> {
    const asked = ++this.asked;
    const answer = await question();
    if (asked > this.answered) {
      this.answered = asked;
      this.latest = answer;
    }
    return answer;
  }
}

// What a page can do later, so that a long one is there as soon as a short one.
{
  const { mathjax } = document.currentScript.dataset; // its address, where the page has formulas

  // A formula is set when it comes into view, and MathJax is loaded for the first of them. The
  // others follow in small steps once the reader does anything: a search in the page, and a
  // printer, want them all.
  const load = () =>
    new Promise((done) => {
      window.MathJax = { ...window.MathJax, startup: { pageReady: async () => done() } };
      const script = document.createElement("script");
      script.src = mathjax;
      document.head.append(script);
    });
  const unset = new Set(document.querySelectorAll(".math"));
  const waiting = [];
  let setting = false;
  const set = async (formulas) => {
    waiting.push(...formulas.filter((formula) => unset.delete(formula)));
    if (setting || !waiting.length) {
      return;
    }
    setting = true;
    if (!window.MathJax?.typesetPromise) {
      await load();
    }
    while (waiting.length) {
      await window.MathJax.typesetPromise(waiting.splice(0, 4));
      await new Promise((done) => setTimeout(done)); // the page answers its reader in between
    }
    setting = false;
  };
  const observer = new IntersectionObserver(
    (entries) => set(entries.filter((one) => one.isIntersecting).map((one) => one.target)),
    { rootMargin: "200px" },
  );
  unset.forEach((formula) => observer.observe(formula));
  const acted = new AbortController();
  const others = () => {
    acted.abort();
    set([...unset]);
  };
  for (const action of ["keydown", "pointerdown", "pointermove", "scroll", "touchstart"]) {
    addEventListener(action, others, { passive: true, signal: acted.signal });
  }

  // The Tab key stops at what scrolls, so that the arrow keys can scroll it. The theme does the
  // same, but measures a whole page anew each time that a part changes. First all are read, then
  // all are written: else each would have the page laid out once more.
  const boxes = [
    ...document.querySelectorAll(
      "pre, .cell_output > .output, .pst-scrollable-table-container, .chapter-map",
    ),
  ];
  const measure = () => {
    const scroll = (box) =>
      box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    const stops = boxes.map((box) => (scroll(box) ? 0 : -1));
    boxes.forEach((box, index) => {
      if (box.tabIndex !== stops[index]) {
        box.tabIndex = stops[index];
      }
    });
  };
  let waits;
  const soon = () => {
    clearTimeout(waits);
    waits = setTimeout(measure, 300);
  };
  addEventListener("load", soon);
  addEventListener("resize", soon);
  document.addEventListener("toggle", soon, { capture: true }); // a folded solution opens
}

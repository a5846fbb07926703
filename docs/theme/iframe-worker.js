// A browser starts no worker for a page that was opened as a file. The search of Material needs one.
// There, this class runs the worker's script in a hidden frame and passes the messages on.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.address = new URL(url, document.baseURI);
      if (document.body) this.start();
      else addEventListener("DOMContentLoaded", () => this.start());
    }

    start() {
      document.body.append(this.frame);
      const inner = this.frame.contentWindow;
      // What the script sends goes to this object, as from a worker.
      inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inner.importScripts = (...urls) =>
        urls.reduce((last, each) => last.then(() => this.load(each)), Promise.resolve());
      this.load(this.address).then(() => {
        this.ready = true;
        this.waiting.splice(0).forEach((data) => this.postMessage(data));
      });
    }

    load(url) {
      return new Promise((done, failed) => {
        const script = this.frame.contentDocument.createElement("script");
        script.src = new URL(url, this.address);
        script.onload = done;
        script.onerror = failed;
        this.frame.contentDocument.head.append(script);
      });
    }

    postMessage(data) {
      if (!this.ready) return void this.waiting.push(data);
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }));
    }

    terminate() {
      this.frame.remove();
    }
  };
}

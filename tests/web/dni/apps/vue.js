// The same shop front in Vue, with parts that are kept alive while they are away from the page.
import { createApp, createSSRApp, defineComponent, h, KeepAlive, nextTick, ref } from "vue";

const NUMBER = "+74951234567";

const Contacts = defineComponent({
  name: "Contacts",
  render: () => h("section", { id: "there" }, [h("h1", "Contacts"), h("address", "Moscow, 8 495 123 45 67")]),
});

const Cards = defineComponent({
  name: "Cards",
  setup() {
    const isOpen = ref(false);
    return () =>
      h("ul", { id: "cards" }, [
        h("li", [
          h("button", { class: "open", onClick: () => (isOpen.value = !isOpen.value) }, isOpen.value ? "hide" : "show"),
          isOpen.value ? h("em", "84951234567") : null,
        ]),
      ]);
  },
});

export const makeApp = (path, create = createSSRApp) =>
  create({
    setup() {
      const route = ref(path);
      const count = ref(0);
      const go = (to) => {
        history.pushState({}, "", to);
        route.value = to;
      };
      return () =>
        h("main", [
          h("header", [
            "Call ",
            h("a", { href: "tel:" + NUMBER, class: "phone" }, ["+7 (", 495, ") 123-45-67"]),
            h("p", { id: "split" }, [h("span", "8 (495) "), h("b", "123-45-67")]),
          ]),
          h("button", { id: "count", onClick: () => count.value++ }, count.value),
          h("p", { id: "line" }, [count.value, " people called 8 495 123-45-", "67", " today"]),
          h("button", { id: "contacts", onClick: () => go("?page=contacts") }, "Contacts"),
          h("button", { id: "home", onClick: () => go("?page=home") }, "Home"),
          h(KeepAlive, null, [route.value.includes("contacts") ? h(Contacts) : h(Cards)]),
        ]);
    },
  });

if (typeof document !== "undefined") {
  const isFromServer = document.getElementById("app").firstElementChild;
  makeApp(location.pathname + location.search, isFromServer ? createSSRApp : createApp).mount("#app");
  window.hydrated = nextTick();
}

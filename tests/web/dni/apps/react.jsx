// A shop front with server-made HTML that is hydrated, a counter that renders again, and two routes without a load.
import { memo, useEffect, useState } from "react";
import { createRoot, hydrateRoot } from "react-dom/client";

const NUMBER = "+74951234567";

const Phone = ({ area }) => (
  <a href={"tel:" + NUMBER} className="phone">
    +7 ({area}) 123-45-67
  </a>
);

const Split = memo(() => (
  <p id="split">
    <span>8 (495) </span>
    <b>123-45-67</b>
  </p>
));

function Card({ number }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <li>
      <button className="open" onClick={() => setOpen(!isOpen)}>
        {isOpen ? "hide" : "show"}
      </button>
      {isOpen && <em>{number}</em>}
    </li>
  );
}

export function App({ path }) {
  const [route, setRoute] = useState(path);
  const [count, setCount] = useState(0);
  useEffect(() => {
    const back = () => setRoute(location.pathname + location.search);
    window.addEventListener("popstate", back);
    return () => window.removeEventListener("popstate", back);
  }, []);
  const go = (to) => {
    history.pushState({}, "", to);
    setRoute(to);
  };
  return (
    <main>
      <header>
        Call <Phone area={495} /> or <Split />
      </header>
      <button id="count" onClick={() => setCount(count + 1)}>
        {count}
      </button>
      <p id="line">
        {count} people called 8 495 123-45-{count >= 0 ? "67" : "00"} today
      </p>
      <button id="contacts" onClick={() => go("?page=contacts")}>
        Contacts
      </button>
      <button id="home" onClick={() => go("?page=home")}>
        Home
      </button>
      {route.includes("contacts") ? (
        <section id="there">
          <h1>Contacts</h1>
          <address>Moscow, 8 495 123 45 67</address>
        </section>
      ) : (
        <ul id="cards">
          <Card number="84951234567" />
        </ul>
      )}
    </main>
  );
}

if (typeof document !== "undefined") {
  const root = document.getElementById("app");
  const path = location.pathname + location.search;
  window.hydrated = new Promise((done) => {
    const Ready = () => {
      useEffect(done, []);
      return <App path={path} />;
    };
    if (root.firstElementChild) {
      hydrateRoot(root, <Ready />, { onRecoverableError: (error) => (window.recovered ||= []).push(String(error)) });
    } else {
      createRoot(root).render(<Ready />);
    }
  });
}
